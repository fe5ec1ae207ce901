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

	"github.com/jmbarzee/dominion/topics"
)

// addTLS adds TLS to a listener. Certificates that are files, and the authority of client
// certificates, are read again when their files change, so that a renewed certificate
// needs no restart.
func (b *Broker) addTLS(l *listener) error {
	if b.config.CertFile == "" && b.config.Identity == nil {
		return errors.New("it needs cert_file and key_file, as the dominion's own keys cannot be used")
	}
	if b.certificates == nil {
		c, err := newCertificates(TLSFiles{b.config.CertFile, b.config.KeyFile, b.config.ClientCAFile, b.config.RequireCertificate}, b.config.Identity, b.log)
		if err != nil {
			return err
		}
		b.certificates = c
	}
	l.Listener = b.certificates.listener(l.Listener)
	return nil
}

// Identity is the dominion's own: its certificate, and whose the certificates are that
// its authority issued. Its methods are called in handshakes, from many goroutines.
type Identity interface {
	// Certificate returns the certificate of a TLS listener where no cert_file is given, by
	// the server name that a client asks for.
	Certificate(serverName string) *tls.Certificate
	// Identify returns whose the certificate of a client is. issued is false for one
	// that is not of the dominion; an error refuses the connection.
	Identify(chain []*x509.Certificate) (who Owner, issued bool, err error)
}

// Owner is whose a certificate is that the dominion's authority issued.
type Owner struct {
	// Name is the user that its connection has: the name of a domain or user, or
	// SERVICE.DOMAIN.
	Name string
	// Use is domain, service or user.
	Use string
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

// LoadTLS reads the files. own has the certificate where none is given, and says whose the
// certificates of clients are; nil: there are only the files.
func LoadTLS(files TLSFiles, own Identity, log *slog.Logger) (*TLS, error) {
	c, err := newCertificates(files, own, log)
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
func newCertificates(files TLSFiles, own Identity, log *slog.Logger) (*certificates, error) {
	c := &certificates{certFile: files.CertFile, keyFile: files.KeyFile, caFile: files.ClientCAFile, require: files.RequireCertificate, own: own}
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
	return tlsConn{tls.Server(conn, c.handshakeConfig), c}
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
	// own has the certificate where certFile is "", and says whose the certificates of
	// clients are; nil: the files do alone.
	own Identity
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
	// clientCAs are the authorities in caFile; nil: there is none.
	clientCAs *x509.CertPool
	// fileNotAfter is when the certificate in certFile expires.
	fileNotAfter time.Time
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
	} else if c.certFile != "" {
		c.changed(c.fileNotAfter)
	}
	return c.config
}

// expires returns when the certificate expires.
func (c *certificates) expires() time.Time {
	if c.certFile == "" {
		if own := c.own.Certificate(""); own != nil && own.Leaf != nil {
			return own.Leaf.NotAfter
		}
		return time.Time{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fileNotAfter
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
	config := &tls.Config{MinVersion: tls.VersionTLS12, VerifyConnection: c.verifyClient}
	var notAfter time.Time
	if c.certFile == "" {
		config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.own.Certificate(hello.ServerName), nil
		}
	} else {
		pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
		if err != nil {
			return fmt.Errorf("cert_file %s with key_file %s: %w", c.certFile, c.keyFile, err)
		}
		config.Certificates, notAfter = []tls.Certificate{pair}, pair.Leaf.NotAfter
		if c.own != nil {
			config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if hello.ServerName == topics.HubServerName { // a domain, which verifies the hub by its authority
					return c.own.Certificate(hello.ServerName), nil
				}
				return nil, nil
			}
		}
	}
	var clientCAs *x509.CertPool
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return fmt.Errorf("client_ca_file: %w", err)
		}
		clientCAs = x509.NewCertPool()
		if !clientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("client_ca_file %s has no certificate in PEM", c.caFile)
		}
	}
	if clientCAs != nil || c.own != nil {
		config.ClientAuth = tls.RequestClientCert // verifyClient verifies it
	}
	if c.require {
		config.ClientAuth = tls.RequireAnyClientCert
	}
	c.config, c.clientCAs, c.loadedTimes, c.fileNotAfter = config, clientCAs, times, notAfter
	return nil
}

// verifyClient verifies the certificate of a client, also when a session of TLS is
// resumed. One that nobody here has issued is refused where client certificates were
// configured, and else ignored: some clients send whatever they have.
func (c *certificates) verifyClient(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	_, known, err := c.identify(state.PeerCertificates)
	if err == nil && !known && (c.caFile != "" || c.require) {
		return errors.New("the client's certificate is issued by none of client_ca_file, and not by the dominion")
	}
	return err
}

// identify returns whose the certificate of a client is: by the dominion's authority, or
// by its common name and client_ca_file; the use is then "".
func (c *certificates) identify(chain []*x509.Certificate) (who Owner, known bool, err error) {
	if c.own != nil {
		if who, issued, err := c.own.Identify(chain); issued || err != nil {
			return who, issued, err
		}
	}
	c.mu.Lock()
	roots := c.clientCAs
	c.mu.Unlock()
	if roots == nil {
		return Owner{}, false, nil
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return Owner{}, false, fmt.Errorf("cannot verify the client's certificate: %w", err)
	}
	return Owner{Name: chain[0].Subject.CommonName}, true, nil
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
type tlsConn struct {
	*tls.Conn
	certificates *certificates
}

// Certificate returns whose the client's certificate is; empty: there is none, or
// nobody here has issued it.
func (c tlsConn) Certificate() (name, use string) {
	if err := c.HandshakeContext(context.Background()); err != nil { // it is over: something was read
		return "", ""
	}
	chain := c.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return "", ""
	}
	who, known, err := c.certificates.identify(chain)
	if err != nil || !known {
		return "", ""
	}
	return who.Name, who.Use
}
