package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// The defaults of Options.
const (
	DefaultKeepAlive = 5 * time.Second
	DefaultTimeout   = 3 * time.Second
)

// Options are the broker to connect to, the client's identity and the properties of
// the connection.
type Options struct {
	// URL is mqtt://[user@]host[:port] or mqtts://[user@]host[:port].
	URL string
	// Name names the broker in errors; "": the URL does, without a user.
	Name string
	// User takes precedence over that of the URL.
	User     string
	Password string
	// TLS configures mqtts. It is cloned; an empty ServerName is the host of the URL,
	// and CAFile, CertFile and KeyFile are added. Nil: an empty one.
	TLS *tls.Config
	// CAFile holds the certificates to trust instead of the system's, PEM.
	CAFile string
	// CertFile holds the client certificate, PEM, and KeyFile its key; "": none.
	CertFile string
	KeyFile  string
	ClientID string
	// Will is published by the broker if the connection ends without Close.
	Will *topics.Message
	// KeepAlive is the time without traffic after which a ping is sent, in whole
	// seconds.
	KeepAlive time.Duration
	// Timeout bounds each of connecting, writing a packet and the answer to a ping.
	Timeout time.Duration
	// Interfaces are the names of the network interfaces on which a host name of the
	// URL that ends in .local is resolved by multicast DNS; none: those of
	// zeroconf.Interfaces.
	Interfaces []string
	// Dial opens the connection below TLS. Nil: TCP to the URL's host.
	Dial func(ctx context.Context) (net.Conn, error)
	// OnMessage is called for each message, in order, on the reading goroutine: it
	// must not block.
	OnMessage func(topics.Message)
	// OnDelivery is called instead of OnMessage if it is set. The message is
	// acknowledged when ack is called, on any goroutine: until then the broker has to
	// hold it.
	OnDelivery func(m topics.Message, ack func())
	// OnRefused is called for each message that the broker refuses, or would, unless it
	// was published by PublishThen. It reports whether it has dealt with that; otherwise
	// the refusal is logged. It must not block. Nil: none does.
	OnRefused func(m topics.Message, r Refusal) bool
	// MaxPacket is the maximum size of a PUBLISH that is accepted, with its header; 0:
	// DefaultMaxPacket. TooLarge is called for a larger one, which is acknowledged and
	// not delivered; nil: it is logged, once for each topic.
	MaxPacket int
	TooLarge  func(topic string, size int)
	// Persistent requests a session that outlives the connection.
	Persistent bool
	// Bridge marks the connection as that of a bridge in the way of mosquitto: it does
	// not get its own messages, and gets the retain flag as published.
	Bridge bool
	// Version is the version of MQTT as its protocol level, 4 or 5; 0: 5.0, and 3.1.1
	// if the broker does not support that.
	Version byte
	// LocalBridge marks the connection as that of a bridge to its own broker, which
	// then counts the messages that the bridge misses. It needs MQTT 5.0.
	LocalBridge bool
	// Window is how many messages of QoS 1 may be unacknowledged, in MQTT 5.0 in both
	// directions; 0: as many as the connection supports.
	Window int
	// Sequential sends each message of QoS 1 only after the previous one was
	// acknowledged, until EndSequential is called.
	Sequential bool
	Log        *slog.Logger
}

// setDefaults sets what is not set.
func (o *Options) setDefaults() {
	o.KeepAlive = cmp.Or(max(o.KeepAlive, 0), DefaultKeepAlive)
	o.Timeout = cmp.Or(max(o.Timeout, 0), DefaultTimeout)
	o.MaxPacket = cmp.Or(max(o.MaxPacket, 0), DefaultMaxPacket)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.URL == "" && o.Dial != nil {
		o.URL = "mqtt://broker"
	}
}

// keepAlive returns the keep alive time in whole seconds, as CONNECT has it.
func (o *Options) keepAlive() time.Duration {
	const most = 65535 * time.Second
	return min(most, max(time.Second, (o.KeepAlive+time.Second-1).Truncate(time.Second)))
}

// request returns the CONNECT.
func (o *Options) request(version byte) *wire.Request {
	r := &wire.Request{
		Version: version, Bridge: o.Bridge && version == wire.V311 || o.LocalBridge, CleanStart: !o.Persistent,
		KeepAlive: uint16(o.keepAlive() / time.Second), ReceiveMaximum: uint16(min(max(o.Window, 0), 65535)),
		ClientID: o.ClientID, User: o.User, Password: o.Password,
	}
	if o.Persistent {
		r.SessionExpiry = wire.NeverExpires
	}
	if w := o.Will; w != nil {
		r.HasWill, r.WillTopic, r.WillPayload, r.WillQoS, r.WillRetain = true, w.Topic, w.Payload, min(w.QoS, 2), w.Retain
	}
	return r
}
