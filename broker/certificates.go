package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// addTLS adds TLS to a listener. Its certificate, and the authority of client
// certificates, are read again when their files change, so that a renewed certificate
// needs no restart.
func (b *Broker) addTLS(l *listener) error {
	if b.config.CertFile == "" || b.config.KeyFile == "" {
		return errors.New("it needs cert_file and key_file")
	}
	if b.certificates == nil {
		c, err := newCertificates(TLSFiles{b.config.CertFile, b.config.KeyFile, b.config.ClientCAFile, b.config.RequireCertificate}, b.log)
		if err != nil {
			return err
		}
		b.certificates = c
	}
	l.Listener = b.certificates.listener(l.Listener)
	return nil
}

// TLSFiles configure a TLS listener.
type TLSFiles struct {
	CertFile, KeyFile string
	// ClientCAFile holds the authorities of client certificates; "": none are
	// requested.
	ClientCAFile       string
	RequireCertificate bool
}

// TLS makes TLS listeners outside the broker. Its certificates are read again when
// their files change.
type TLS struct{ certificates *certificates }

// LoadTLS reads the files.
func LoadTLS(files TLSFiles, log *slog.Logger) (*TLS, error) {
	c, err := newCertificates(files, log)
	if err != nil {
		return nil, err
	}
	return &TLS{c}, nil
}

// Listen returns l with TLS. Connections without TLS are accepted too, so that they
// can be answered: IsPlain detects them.
func (t *TLS) Listen(l net.Listener) net.Listener { return &sniffingListener{l, t.certificates} }

// Expires returns when the certificate expires.
func (t *TLS) Expires() time.Time {
	t.certificates.current(time.Now())
	return t.certificates.expires()
}

// newCertificates reads the files of a TLS listener.
func newCertificates(files TLSFiles, log *slog.Logger) (*certificates, error) {
	c := &certificates{certFile: files.CertFile, keyFile: files.KeyFile, caFile: files.ClientCAFile, require: files.RequireCertificate}
	if err := c.reload(); err != nil {
		return nil, err
	}
	c.handshakeConfig = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(time.Now()), nil },
	}
	c.failed = func(err error) { log.Error("cannot reload the certificate, the old one stays", "error", err) }
	c.changed = func(until time.Time) { log.Info("certificate reloaded", "expires", until.Format(time.DateOnly)) }
	return c, nil
}

// listener returns l with TLS.
func (c *certificates) listener(l net.Listener) net.Listener { return &tlsListener{l, c} }

// server returns the server side of TLS on a connection. All share one configuration,
// which has the keys of session tickets.
func (c *certificates) server(conn net.Conn) tlsConn {
	return tlsConn{tls.Server(conn, c.handshakeConfig)}
}

// CertificateExpires returns when the broker's certificate expires; zero without TLS.
func (b *Broker) CertificateExpires() time.Time {
	if b.certificates == nil {
		return time.Time{}
	}
	b.certificates.current(time.Now())
	return b.certificates.expires()
}

// certificateCheckInterval is the minimum time between two checks of the files.
const certificateCheckInterval = 5 * time.Second

// certificates are the broker's own, and the authorities of its clients'.
type certificates struct {
	certFile, keyFile, caFile string
	require                   bool
	// handshakeConfig is that of connections before their handshake; it refers to
	// config.
	handshakeConfig *tls.Config
	failed          func(error)
	changed         func(until time.Time)

	mu        sync.Mutex
	checkedAt time.Time
	// loadedTimes are the modification times of the files in use.
	loadedTimes [3]time.Time
	// failedTimes are those of files that could not be used.
	failedTimes [3]time.Time
	config      *tls.Config
	notAfter    time.Time
}

// current returns the configuration for a handshake, and reads the files again if they
// have changed.
func (c *certificates) current(now time.Time) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.checkedAt) < certificateCheckInterval && now.After(c.checkedAt) {
		return c.config
	}
	c.checkedAt = now
	times := c.modTimes()
	if times == c.loadedTimes || times == c.failedTimes {
		return c.config
	}
	if err := c.load(times); err != nil {
		c.failedTimes = times // logged once
		c.failed(err)
	} else {
		c.changed(c.notAfter)
	}
	return c.config
}

// expires returns when the certificate expires.
func (c *certificates) expires() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.notAfter
}

// reload reads the files, whether they have changed or not.
func (c *certificates) reload() error { return c.load(c.modTimes()) }

// modTimes returns the modification times of the files.
func (c *certificates) modTimes() (all [3]time.Time) {
	for i, f := range []string{c.certFile, c.keyFile, c.caFile} {
		if info, err := os.Stat(f); err == nil {
			all[i] = info.ModTime()
		}
	}
	return all
}

// load reads the files.
func (c *certificates) load(times [3]time.Time) error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("cert_file %s with key_file %s: %w", c.certFile, c.keyFile, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return fmt.Errorf("client_ca_file: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("client_ca_file %s has no certificate in PEM", c.caFile)
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if c.require {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	c.config, c.loadedTimes, c.notAfter = config, times, pair.Leaf.NotAfter
	return nil
}

// tlsListener is a listener whose connections provide the certificate of their client.
type tlsListener struct {
	net.Listener
	certificates *certificates
}

// Accept returns a connection of TLS before its handshake.
func (l *tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.certificates.server(c), nil
}

// tlsConn is a connection of TLS.
type tlsConn struct{ *tls.Conn }

// Certificate returns the common name in the client's verified certificate; "": there
// is none.
func (c tlsConn) Certificate() string {
	if err := c.HandshakeContext(context.Background()); err != nil { // it is over: something was read
		return ""
	}
	chains := c.ConnectionState().VerifiedChains
	if len(chains) == 0 {
		return ""
	}
	return chains[0][0].Subject.CommonName
}
