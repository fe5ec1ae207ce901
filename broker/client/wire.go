package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/eclipse/paho.mqtt.golang"

	"github.com/jmbarzee/dominion/broker/zeroconf"
)

// server is a broker's URL, taken apart.
type server struct {
	tls        bool
	user       string
	host, port string
}

// String is the URL without the user.
func (s server) String() string {
	scheme := "mqtt"
	if s.tls {
		scheme = "mqtts"
	}
	return scheme + "://" + net.JoinHostPort(s.host, s.port)
}

// parseURL reads mqtt://[user@]host[:port] and mqtts://….
func parseURL(s string) (server, error) {
	fault := func(why string) (server, error) {
		return server{}, fmt.Errorf("cannot use broker url %q: %s; write mqtt://host:port or mqtts://host:port", redact(s), why)
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return fault("it is not a URL")
	}
	at := server{user: u.User.Username(), host: u.Hostname(), port: u.Port()}
	switch u.Scheme {
	case "mqtt":
		at.port = orElse(at.port, "1883")
	case "mqtts":
		at.tls = true
		at.port = orElse(at.port, "8883")
	default:
		return fault(fmt.Sprintf("%q is none of its schemes", u.Scheme))
	}
	if _, has := u.User.Password(); has {
		return fault("a password does not belong into it, use a password file")
	}
	if at.host == "" {
		return fault("it names no host")
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return fault("nothing may follow the port")
	}
	return at, nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// redact hides the password of a URL, also of one that cannot be parsed.
func redact(s string) string {
	u, err := url.Parse(s)
	if err == nil {
		return u.Redacted()
	}
	return "…"
}

func tlsConfig(host string, o Options) (*tls.Config, error) {
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if o.CertFile != "" || o.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cannot use cert_file %s with key_file %s: %w", o.CertFile, o.KeyFile, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	caFile := o.CAFile
	if caFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read cafile: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("cannot use cafile %s: there is no certificate in it", caFile)
	}
	return c, nil
}

// wire is the connection that paho is given. Each write has a deadline: paho
// sets one for PUBLISH alone, and an acknowledgement or a ping would wait for
// ever for a peer that does not read.
type wire struct {
	net.Conn
	timeout time.Duration
	// writing holds a value while one writes: paho's pings come in between. No
	// mutex, because waiting for one stops the clock of a synctest bubble.
	writing chan struct{}
	in      *incoming
	v5      *v5         // nil: the line speaks 3.1.1
	peer    atomic.Bool // the broker ended the connection, and not we, the network or a deadline
	settle  func() bool // no longer tied to the context it was opened with; false: that has ended
}

func (w *wire) Write(b []byte) (int, error) {
	w.writing <- struct{}{}
	defer func() { <-w.writing }()
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	line := b
	if w.v5 != nil {
		var err error
		if line, err = w.v5.out(b); err != nil {
			return 0, err
		}
	}
	if n, err := w.Conn.Write(line); err != nil {
		w.note(err)
		return min(n, len(b)), err
	}
	return len(b), nil
}

// note takes an error of reading or writing.
func (w *wire) note(err error) {
	if errors.As(err, new(*Disconnected)) || slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE}, func(peer error) bool { return errors.Is(err, peer) }) {
		w.peer.Store(true)
	}
}

// SetWriteDeadline keeps paho's hands off what Write does.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// Read hands on what incoming lets through.
func (w *wire) Read(b []byte) (int, error) {
	n, err := w.in.Read(b)
	if err != nil {
		w.note(err)
	}
	return n, closedAs(err)
}

// Dial opens a connection to a broker, with TLS where the URL asks for it, and
// sends nothing: neither user nor password of o are used.
func Dial(ctx context.Context, o Options) (net.Conn, error) {
	s, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	var secure *tls.Config
	if s.tls {
		if secure, err = tlsConfig(s.host, o); err != nil {
			return nil, fmt.Errorf("cannot connect to %s: %w", s, err)
		}
	}
	conn, err := dial(ctx, o, s, secure)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", s, err)
	}
	return conn, nil
}

// dialHost opens a TCP connection. A name that ends in .local is looked up by
// multicast DNS, as Go's own resolver does not, and by the system where nobody
// answers.
func dialHost(ctx context.Context, interfaces []string, s server) (net.Conn, error) {
	var d net.Dialer
	if zeroconf.IsLocal(s.host) {
		found, unresolved := zeroconf.Resolve(ctx, interfaces, s.host)
		var fault error
		for _, a := range found {
			conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), s.port))
			if err == nil {
				return conn, nil
			}
			fault = errors.Join(fault, err)
		}
		if fault != nil {
			return nil, fault
		}
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(s.host, s.port))
		if err != nil {
			return nil, errors.Join(unresolved, err)
		}
		return conn, nil
	}
	return d.DialContext(ctx, "tcp", net.JoinHostPort(s.host, s.port))
}

// dial opens the connection below MQTT.
func dial(ctx context.Context, o Options, s server, secure *tls.Config) (net.Conn, error) {
	open := o.Dial
	if open == nil {
		open = func(ctx context.Context) (net.Conn, error) { return dialHost(ctx, o.Interfaces, s) }
	}
	conn, err := open(ctx)
	if err != nil || secure == nil {
		return conn, err
	}
	t := tls.Client(conn, secure)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("no TLS with it: %w", err)
	}
	return t, nil
}

// open opens the connection; it is closed when ctx ends, until it is settled.
func open(ctx context.Context, o Options, s server, secure *tls.Config) (*wire, error) {
	conn, err := dial(ctx, o, s, secure)
	if err != nil {
		return nil, err
	}
	settle := context.AfterFunc(ctx, func() { _ = conn.Close() })
	w := &wire{Conn: conn, timeout: o.Timeout, writing: make(chan struct{}, 1), settle: settle}
	if o.MQTT5 {
		w.v5 = &v5{keep: o.Keep, bridge: o.Bridge, mark: o.Own, receive: uint16(o.Window)}
	}
	w.in = newIncoming(conn, o.MaxPacket, func(packet []byte) error { _, err := w.Write(packet); return err }, o.TooLarge)
	w.in.v5 = w.v5
	return w, nil
}

func openFunc(open func() (net.Conn, error)) mqtt.OpenConnectionFunc {
	return func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return open() }
}

// pahoOptions are the settings that paho needs to be dependable for us: what it
// would do by itself about reconnecting is done by the callers, who know what
// to say after it.
func pahoOptions(o Options, s server) *mqtt.ClientOptions {
	opts := mqtt.NewClientOptions().
		AddBroker(s.String()).
		SetClientID(o.ClientID).
		SetProtocolVersion(4). // 3.1.1; otherwise paho tries 3.1 after each refusal
		SetCleanSession(!o.Keep).
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

// Backoff says how long to wait before connecting again: 100 ms after the
// first failure (attempt 0), doubling to 2 s, and up to a half of it less, so
// that a whole house does not come back in step: random is rand.N, or what a
// test puts in its place.
func Backoff(attempt int, random func(limit time.Duration) time.Duration) time.Duration {
	const first, last = 100 * time.Millisecond, 2 * time.Second
	d := last
	if attempt < 5 {
		d = min(last, first<<max(attempt, 0))
	}
	return d - random(d/2)
}
