package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

func hashOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// tryConnect connects once over a pipe and tells how it went; "" is well. A connection that
// was let in is kept until the end of the test.
func tryConnect(t *testing.T, b *broker.Broker, id, user, password string) string {
	t.Helper()
	o := client.Options{URL: "mqtt://pipe", ClientID: id, User: user, Password: password, Dial: pipeTo(b)}
	c, err := client.Connect(t.Context(), o)
	if err != nil {
		return err.Error()
	}
	t.Cleanup(c.Close)
	return ""
}

func TestClientIDBelongsToItsUser(t *testing.T) {
	dir := t.TempDir()
	users := []broker.User{
		{Name: "ada", PasswordHash: hashOf(t, "a"), Role: broker.RoleDevice},
		{Name: "bob", PasswordHash: hashOf(t, "b"), Role: broker.RoleDevice},
		{Name: "pi", PasswordHash: hashOf(t, "p"), Role: broker.RoleDomain},
	}
	b := start(t, broker.Config{Users: users, DataDir: dir})
	rejected := func(err string) bool { return strings.Contains(err, "refused the client identifier") }
	for _, tt := range []struct {
		id, user, password string
		rejected           bool
	}{
		{"tv", "ada", "a", false},
		{"tv", "bob", "b", true},
		{"tv", "", "", true},
		{"tv", "ada", "a", false}, // again, and over its own connection
		{"radio", "bob", "b", false},
		{"domain-1", "bob", "b", true}, // an agent's
		{"domain-1", "pi", "p", false},
		{"domain-2", "", "", false}, // anonymous clients are admins
	} {
		if err := tryConnect(t, b, tt.id, tt.user, tt.password); rejected(err) != tt.rejected || err != "" && !tt.rejected {
			t.Errorf("%s as %q: %q", tt.id, tt.user, err)
		}
	}
	// What a user that is gone leaves is the next one's.
	if err := b.Reload(users[1:], false, nil); err != nil {
		t.Fatal(err)
	}
	if err := tryConnect(t, b, "tv", "bob", "b"); err != "" {
		t.Errorf("the client id of a user that is gone: %s", err)
	}
}

// The owner of a session that is kept is known after a restart, too.
func TestPersistentSessionBelongsToItsUser(t *testing.T) {
	dir := t.TempDir()
	users := []broker.User{
		{Name: "ada", PasswordHash: hashOf(t, "a"), Role: broker.RoleDevice},
		{Name: "bob", PasswordHash: hashOf(t, "b"), Role: broker.RoleDevice},
	}
	b := start(t, broker.Config{Users: users, DataDir: dir})
	connectPersistent(t, b, "lamp", "ada", "a")
	stop(t, b)
	b = start(t, broker.Config{Users: users, DataDir: dir})
	if err := tryConnect(t, b, "lamp", "bob", "b"); !strings.Contains(err, "refused the client identifier") {
		t.Errorf("another user resumed the session: %q", err)
	}
	if err := tryConnect(t, b, "lamp", "ada", "a"); err != "" {
		t.Error(err)
	}
}

// Guessing is slowed down by user and address, and answered in a way that
// makes nobody give up; what a stranger tries does not lock out the user.
func TestGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{Users: []broker.User{
			{Name: "ada", PasswordFile: write(t, "ada", "a\n"), Role: broker.RoleDevice},
			{Name: "bob", PasswordFile: write(t, "bob", "b\n"), Role: broker.RoleDevice},
		}})
		from := func(host, user, password string) string {
			o := client.Options{URL: "mqtt://pipe", ClientID: "c-" + user, User: user, Password: password, Dial: pipeFrom(b, host)}
			c, err := client.Connect(t.Context(), o)
			if err != nil {
				return err.Error()
			}
			c.Close()
			return ""
		}
		busy := func(err string) bool { return strings.Contains(err, "server busy (0x89)") }
		wrong := 0
		for busyYet := false; !busyYet; wrong++ {
			err := from("192.0.2.66", "ada", fmt.Sprint("guess", wrong))
			busyYet = busy(err)
			if !busyYet && !strings.Contains(err, "refused user or password") {
				t.Fatalf("guess %d: %q", wrong, err)
			}
			if wrong > 50 {
				t.Fatal("guessing is not slowed down")
			}
		}
		if !busy(from("192.0.2.66", "ada", "a")) {
			t.Error("the right password tells that it is right while it should wait")
		}
		if err := from("192.0.2.7", "ada", "a"); err != "" {
			t.Errorf("the user is locked out elsewhere: %s", err)
		}
		if err := from("192.0.2.66", "bob", "b"); err != "" {
			t.Errorf("another user is locked out at once: %s", err)
		}
		time.Sleep(2 * time.Minute)
		if err := from("192.0.2.66", "ada", "a"); err != "" {
			t.Errorf("after a wait: %s", err)
		}
		for i := range 40 { // a list of users
			if err := from("192.0.2.66", strings.Repeat("x", i+1), "guess"); i == 39 && !busy(err) {
				t.Errorf("guess %d of users: %q", i, err)
			}
		}
	})
}

// A password that was right once is not hashed again: a home that connects
// again after a restart of its router is let in at once.
func TestRightPasswordIsHashedOnce(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), 9) // some 20 ms each
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, broker.Config{Users: []broker.User{{Name: "ada", PasswordHash: string(hash), Role: broker.RoleDevice}}})
	// the processor's time: what else the machine does takes none of it
	worked := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := worked()
	if err := tryConnect(t, b, "c", "ada", "secret"); err != "" {
		t.Fatal(err)
	}
	once := worked() - began
	began = worked()
	for range 20 {
		if err := tryConnect(t, b, "c", "ada", "secret"); err != "" {
			t.Fatal(err)
		}
	}
	if more := worked() - began; more > 10*once {
		t.Errorf("the first took %v, twenty more %v", once, more)
	}
	if err := tryConnect(t, b, "c", "ada", "wrong"); err == "" {
		t.Error("a wrong password is let in after a right one")
	}
}

// authority signs certificates of clients.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	file, keyFile := certificate(t)
	pair, err := tls.LoadX509KeyPair(file, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return authority{file, pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)}
}

func (a authority) sign(t *testing.T, name string, until time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return writePair(t, der, key)
}

func TestClientCertificates(t *testing.T) {
	server, serverKey := certificate(t)
	clients, others := newAuthority(t), newAuthority(t)
	users := []broker.User{
		{Name: "ada", Certificate: true, Role: broker.RoleDevice},
		{Name: "bob", PasswordHash: hashOf(t, "b"), Role: broker.RoleDevice},
	}
	config := broker.Config{ListenTLS: "127.0.0.1:0", CertFile: server, KeyFile: serverKey, ClientCAFile: clients.file, Users: users}
	_, given := listen(t, config)
	config.RequireCertificate = true
	_, required := listen(t, config)
	hour := time.Now().Add(time.Hour)
	type try struct {
		what                 string
		by                   *authority
		name, user, password string
		until                time.Time
		given, required      bool
	}
	for _, tt := range []try{
		{"the name in it is the user", &clients, "ada", "", "", hour, true, true},
		{"and may be said", &clients, "ada", "ada", "", hour, true, true},
		{"of another user", &clients, "ada", "bob", "b", hour, false, false},
		{"of nobody", &clients, "eve", "", "", hour, false, false},
		{"of a user with a password alone", &clients, "bob", "", "", hour, false, false},
		{"with that password", &clients, "bob", "bob", "b", hour, true, true},
		{"of another authority", &others, "ada", "", "", hour, false, false},
		{"expired", &clients, "ada", "", "", time.Now().Add(-time.Hour), false, false},
		{"none, with a password", nil, "", "bob", "b", hour, true, false},
		{"none, with the name alone", nil, "", "ada", "", hour, false, false},
	} {
		for url, in := range map[string]bool{given["mqtts"]: tt.given, required["mqtts"]: tt.required} {
			o := client.Options{URL: url, CAFile: server, ClientID: "c-" + tt.name + tt.user, User: tt.user, Password: tt.password}
			if tt.by != nil {
				o.CertFile, o.KeyFile = tt.by.sign(t, tt.name, tt.until)
			}
			c, err := client.Connect(t.Context(), o)
			if (err == nil) != in {
				t.Errorf("%s: let in is %v, want %v: %v", tt.what, err == nil, in, err)
			}
			if err == nil {
				c.Close()
			}
		}
	}
}

// A certificate that is renewed is used without a restart; one that cannot be
// read leaves the old one.
func TestCertificateIsReadAgain(t *testing.T) {
	cert, key := certificate(t)
	var said bytes.Buffer
	b, err := broker.New(broker.Config{ListenTLS: "127.0.0.1:0", CertFile: cert, KeyFile: key}, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	defer stop(t, b)
	at := b.Listeners()[0].Addr.String()
	if until := b.CertificateExpires(); time.Until(until) > time.Hour || time.Until(until) < 50*time.Minute {
		t.Errorf("it expires at %v", until)
	}
	shown := func() string {
		c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return string(c.ConnectionState().PeerCertificates[0].Raw)
	}
	first := shown()
	replace := func(file, from string) {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Minute) // than that of the file before, whatever the file system's clock is
		if err := errors.Join(os.Chtimes(file+".new", later, later), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	next, nextKey := certificate(t)
	replace(cert, next) // the key is the old one still
	b.LookAtCertificates()
	if shown() != first {
		t.Error("a certificate without its key is shown")
	}
	replace(key, nextKey)
	b.LookAtCertificates()
	if shown() == first {
		t.Error("the old certificate is shown")
	}
	if s := said.String(); !strings.Contains(s, "cannot reload the certificate") || !strings.Contains(s, "certificate reloaded") {
		t.Error(s)
	}
}

// TLS below 1.2 is refused.
func TestOldTLS(t *testing.T) {
	cert, key := certificate(t)
	b, _ := listen(t, broker.Config{ListenTLS: "127.0.0.1:0", CertFile: cert, KeyFile: key})
	_, err := tls.Dial("tcp", b.Listeners()[0].Addr.String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("TLS 1.1: %v", err)
	}
}

// What a client names itself does not reach the log as lines of its own.
func TestNothingIsInjectedIntoTheLog(t *testing.T) {
	var said bytes.Buffer
	b, err := broker.New(broker.Config{Users: []broker.User{{Name: "ada", PasswordHash: hashOf(t, "a"), Role: broker.RoleReader}}}, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	const evil = "x\nlevel=ERROR msg=forged\x1b[2J"
	_ = tryConnect(t, b, evil, evil, "wrong")
	c, err := client.Connect(t.Context(), client.Options{URL: "mqtt://pipe", ClientID: evil, User: "ada", Password: "a", Dial: pipeTo(b)})
	if err != nil {
		t.Fatal(err)
	}
	c.Publish(topics.Message{Topic: "a/" + evil, Payload: []byte("x"), QoS: 1})
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop(t, b)
	if s := said.String(); strings.Contains(s, "\nlevel=ERROR") || strings.Contains(s, "\x1b") || !strings.Contains(s, `\nlevel=ERROR`) {
		t.Errorf("%q", s)
	}
}

func pipeTo(b *broker.Broker) func(context.Context) (net.Conn, error) { return pipeFrom(b, "") }

// pipeFrom returns what opens connections that come from a host.
func pipeFrom(b *broker.Broker, host string) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		if host != "" {
			theirs = remoteConn{theirs, &net.TCPAddr{IP: net.ParseIP(host), Port: 1234}}
		}
		b.Serve(theirs)
		return ours, nil
	}
}

type remoteConn struct {
	net.Conn
	addr net.Addr
}

func (f remoteConn) RemoteAddr() net.Addr { return f.addr }

// connectPersistent makes a persistent session, and disconnects.
func connectPersistent(t *testing.T, b *broker.Broker, id, user, password string) {
	t.Helper()
	ours, theirs := net.Pipe()
	b.Serve(theirs)
	send(t, ours, encode(t, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: id, Keepalive: 60,
			UsernameFlag: true, Username: []byte(user), PasswordFlag: true, Password: []byte(password),
		},
	}))
	if kind, pk := receive(t, bufio.NewReader(ours)); kind != packets.Connack || pk.ReasonCode != 0 {
		t.Fatalf("packet type %d, code %d", kind, pk.ReasonCode)
	}
	ours.Close()
}
