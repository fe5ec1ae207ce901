package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"

	"github.com/jmbarzee/dominion/broker/zeroconf"
)

// serverURL is a parsed broker URL.
type serverURL struct {
	tls        bool
	user       string
	host, port string
}

// String returns the URL without the user.
func (s serverURL) String() string {
	scheme := "mqtt"
	if s.tls {
		scheme = "mqtts"
	}
	return scheme + "://" + net.JoinHostPort(s.host, s.port)
}

// parseURL parses mqtt://[user@]host[:port] and mqtts://….
func parseURL(s string) (serverURL, error) {
	invalid := func(reason string) (serverURL, error) {
		return serverURL{}, fmt.Errorf("cannot use broker url %q: %s; write mqtt://host:port or mqtts://host:port", redact(s), reason)
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return invalid("it is not a URL")
	}
	server := serverURL{user: u.User.Username(), host: u.Hostname(), port: u.Port()}
	switch u.Scheme {
	case "mqtt":
		server.port = orDefault(server.port, "1883")
	case "mqtts":
		server.tls = true
		server.port = orDefault(server.port, "8883")
	default:
		return invalid(fmt.Sprintf("%q is not a valid scheme", u.Scheme))
	}
	if _, has := u.User.Password(); has {
		return invalid("it must not contain a password, use a password file")
	}
	if server.host == "" {
		return invalid("it has no host")
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return invalid("nothing may follow the port")
	}
	return server, nil
}

// orDefault returns s, or otherwise if s is empty.
func orDefault(s, otherwise string) string {
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

// tlsConfig returns the configuration of TLS with the certificates of the options.
func tlsConfig(host string, o Options) (*tls.Config, error) {
	c := &tls.Config{}
	if o.TLS != nil {
		c = o.TLS.Clone()
	}
	c.ServerName = orDefault(c.ServerName, host)
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
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

// Dial opens a connection to a broker, with TLS if the URL requires it. It sends
// nothing: user and password of o are not used.
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

// dialTCP opens a TCP connection. A name that ends in .local is resolved by multicast
// DNS, which Go's own resolver does not do, and by the system if nothing answers.
func dialTCP(ctx context.Context, interfaces []string, s serverURL) (net.Conn, error) {
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
func dial(ctx context.Context, o Options, s serverURL, secure *tls.Config) (net.Conn, error) {
	open := o.Dial
	if open == nil {
		open = func(ctx context.Context) (net.Conn, error) { return dialTCP(ctx, o.Interfaces, s) }
	}
	conn, err := open(ctx)
	if err != nil || secure == nil {
		return conn, err
	}
	t := tls.Client(conn, secure)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("the TLS handshake failed: %w", err)
	}
	return t, nil
}
