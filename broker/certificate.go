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

// secure makes a listener one of TLS. Its certificate, and the authority of
// those of clients, are read again when their files change: nobody is to
// restart a hub because a certificate was renewed.
func (b *Broker) secure(l *listener) error {
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

// TLSFiles are what a TLS listener is made of.
type TLSFiles struct {
	CertFile, KeyFile  string
	ClientCAFile       string // of the certificates of clients; "": none are asked for
	RequireCertificate bool
}

// TLS is what a TLS listener outside the broker is made with. Its certificates are
// read again when their files change.
type TLS struct{ certificates *certificates }

// LoadTLS reads the files.
func LoadTLS(files TLSFiles, log *slog.Logger) (*TLS, error) {
	c, err := newCertificates(files, log)
	if err != nil {
		return nil, err
	}
	return &TLS{c}, nil
}

// Listen returns l with TLS. Who does not speak TLS is let in too, so that it can be
// answered: IsPlain tells.
func (t *TLS) Listen(l net.Listener) net.Listener { return &sniffing{l, t.certificates} }

// Expires returns until when the certificate is valid.
func (t *TLS) Expires() time.Time {
	t.certificates.current(time.Now())
	return t.certificates.expires()
}

func newCertificates(files TLSFiles, log *slog.Logger) (*certificates, error) {
	c := &certificates{certFile: files.CertFile, keyFile: files.KeyFile, caFile: files.ClientCAFile, require: files.RequireCertificate}
	if err := c.read(); err != nil {
		return nil, err
	}
	c.outer = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current(time.Now()), nil },
	}
	c.failed = func(err error) { log.Error("the certificate was not read anew, the old one stays", "error", err) }
	c.changed = func(until time.Time) { log.Info("certificate read anew", "expires", until.Format(time.DateOnly)) }
	return c, nil
}

func (c *certificates) listener(l net.Listener) net.Listener { return &certifying{l, c} }

// server is the server's end of TLS on a connection. All share one configuration:
// it has the keys of session tickets.
func (c *certificates) server(conn net.Conn) certified { return certified{tls.Server(conn, c.outer)} }

// CertificateExpires tells until when the broker's own certificate holds; zero
// without TLS.
func (b *Broker) CertificateExpires() time.Time {
	if b.certificates == nil {
		return time.Time{}
	}
	b.certificates.current(time.Now())
	return b.certificates.expires()
}

// certificatesLook is how often at most the files are looked at.
const certificatesLook = 5 * time.Second

// certificates are the broker's own, and the authority of its clients'.
type certificates struct {
	certFile, keyFile, caFile string
	require                   bool
	outer                     *tls.Config // of connections before their handshake
	failed                    func(error)
	changed                   func(until time.Time)

	mu      sync.Mutex
	looked  time.Time
	written [3]time.Time // modification times of the files in use
	refused [3]time.Time // of those that could not be used
	config  *tls.Config
	until   time.Time
}

// current returns what a handshake uses now.
func (c *certificates) current(now time.Time) *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) < certificatesLook && now.After(c.looked) {
		return c.config
	}
	c.looked = now
	times := c.times()
	if times == c.written || times == c.refused {
		return c.config
	}
	if err := c.load(times); err != nil {
		c.refused = times // said once
		c.failed(err)
	} else {
		c.changed(c.until)
	}
	return c.config
}

func (c *certificates) expires() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until
}

func (c *certificates) read() error { return c.load(c.times()) }

func (c *certificates) times() (all [3]time.Time) {
	for i, f := range []string{c.certFile, c.keyFile, c.caFile} {
		if info, err := os.Stat(f); err == nil {
			all[i] = info.ModTime()
		}
	}
	return all
}

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
			return fmt.Errorf("client_ca_file %s holds no certificate in PEM", c.caFile)
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if c.require {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	c.config, c.written, c.until = config, times, pair.Leaf.NotAfter
	return nil
}

// certifying is a listener whose connections know the certificate of their
// client.
type certifying struct {
	net.Listener
	certificates *certificates
}

func (l *certifying) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.certificates.server(c), nil
}

// certified is a connection of TLS.
type certified struct{ *tls.Conn }

// Certificate returns the common name in the client's certificate, "" where it
// showed none. It is verified: who has none of our authority does not get here.
func (c certified) Certificate() string {
	if err := c.HandshakeContext(context.Background()); err != nil { // it is over: something was read
		return ""
	}
	chains := c.ConnectionState().VerifiedChains
	if len(chains) == 0 {
		return ""
	}
	return chains[0][0].Subject.CommonName
}
