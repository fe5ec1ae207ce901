package client

import (
	"context"
	"log/slog"
	"net"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
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
	// User takes precedence over that of the URL.
	User     string
	Password string
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
	// MQTT5 uses MQTT 5.0, in which a broker gives reasons for refusals. A will is not
	// supported with it.
	MQTT5 bool
	// LocalBridge, with MQTT5, marks the connection as that of a bridge to its own
	// broker, which then counts the messages that the bridge misses.
	LocalBridge bool
	// Window is how many messages of QoS 1 may be unacknowledged, in both directions
	// with MQTT5; 0: as many as the connection supports.
	Window int
	// Sequential sends each message of QoS 1 only after the previous one was
	// acknowledged, until EndSequential is called.
	Sequential bool
	Log        *slog.Logger
}

// pahoOptions returns the options for paho. Its own reconnecting is off: the callers
// reconnect, as they know what to publish then.
func pahoOptions(o Options, s serverURL) *mqtt.ClientOptions {
	opts := mqtt.NewClientOptions().
		AddBroker(s.String()).
		SetClientID(o.ClientID).
		SetProtocolVersion(4). // 3.1.1; otherwise paho tries 3.1 after each refusal
		SetCleanSession(!o.Persistent).
		SetAutoAckDisabled(o.OnDelivery != nil).
		SetOrderMatters(true).
		SetStore(mqtt.NewOrderedMemoryStore()).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(o.Timeout).
		SetWriteTimeout(o.Timeout).
		SetPingTimeout(o.Timeout).
		SetKeepAlive(max(time.Second, (o.KeepAlive + time.Second - 1).Truncate(time.Second)))
	if o.Bridge && !o.MQTT5 {
		opts.SetProtocolVersion(0x84)
	}
	if o.User != "" {
		opts.SetUsername(o.User).SetPassword(o.Password)
	}
	if w := o.Will; w != nil {
		opts.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	return opts
}
