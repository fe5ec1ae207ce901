package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// listen starts a broker with its listeners and returns their URLs by scheme.
func listen(t *testing.T, cfg broker.Config) (*broker.Broker, map[string]string) {
	t.Helper()
	b := start(t, cfg)
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	urls := make(map[string]string)
	for _, l := range b.Listeners() {
		_, port, _ := net.SplitHostPort(l.Addr.String())
		urls[l.Scheme] = l.Scheme + "://127.0.0.1:" + port
	}
	return b, urls
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWhoIsLetIn(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("h4sh"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := []broker.User{
		{Name: "file", PasswordFile: write(t, "password", "s3cret\nnot this line\n"), Role: broker.RoleReader},
		{Name: "hash", PasswordHash: string(hash), Role: broker.RoleDevice},
	}
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	loopback, err := broker.New(broker.Config{Listen: "127.0.0.1:0", Users: users}, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := loopback.Listen(); err != nil {
		t.Fatal(err)
	}
	here := "mqtt://" + loopback.Listeners()[0].Addr.String()
	// bound to every address: that others can reach it decides, not where the
	// client comes from
	reachable, urls := listen(t, broker.Config{Listen: "0.0.0.0:0", Users: users})
	there := urls["mqtt"]
	_, open := listen(t, broker.Config{Listen: "0.0.0.0:0", Users: users, AllowAnonymous: true})
	try := func(url, user, password string, in bool) {
		t.Helper()
		c, err := client.Connect(t.Context(), client.Options{URL: url, User: user, Password: password, ClientID: "c-" + user})
		if err == nil {
			c.Close()
		}
		if (err == nil) != in || err != nil && !errors.Is(err, client.ErrNotAuthorized) {
			t.Errorf("user %q password %q at %s: %v", user, password, url, err)
		}
	}
	for _, url := range []string{here, there, open["mqtt"]} {
		try(url, "file", "s3cret", true)
		try(url, "file", "s3cret\n", false)
		try(url, "file", "wr0ng", false)
		try(url, "file", "", false)
		try(url, "hash", "h4sh", true)
		try(url, "hash", "wr0ng", false)
		try(url, "nobody", "s3cret", false)
	}
	try(here, "", "", true)
	try(there, "", "", false)
	try(open["mqtt"], "", "", true)

	if err := reachable.Reload(users[:1], true, nil); err != nil {
		t.Fatal(err)
	}
	try(there, "", "", true)
	try(there, "hash", "h4sh", false)
	if err := reachable.Reload([]broker.User{{Name: "x", Role: "king", PasswordHash: string(hash)}}, false, nil); err == nil {
		t.Error("an unknown role was taken")
	}
	try(there, "file", "s3cret", true) // the users before

	stop(t, loopback)
	if s := said.String(); !strings.Contains(s, "wrong password") || strings.Contains(s, "wr0ng") || strings.Contains(s, "s3cret") {
		t.Errorf("the log must tell of refusals and no password: %s", s)
	}
}

func TestUsersThatCannotBe(t *testing.T) {
	empty := write(t, "empty", "\nsecond line")
	for want, u := range map[string]broker.User{
		`"king" is not a valid role`: {Name: "x", Role: "king", PasswordHash: "y"},
		"needs one of":               {Name: "x", Role: broker.RoleAdmin},
		"is not a bcrypt hash":       {Name: "x", Role: broker.RoleAdmin, PasswordHash: "y"},
		"/no/such/file":              {Name: "x", Role: broker.RoleAdmin, PasswordFile: "/no/such/file"},
		empty:                        {Name: "x", Role: broker.RoleAdmin, PasswordFile: empty},
		"the name of its domain":     {Name: "Pi Kitchen", Role: broker.RoleDomain, PasswordHash: "y"},
		"has no name":                {Role: broker.RoleAdmin, PasswordHash: "y"},
	} {
		_, err := broker.New(broker.Config{Users: []broker.User{u}}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("user %+v: %v, want an error with %q", u, err, want)
		}
	}
}

// Roles count on the wire: at publishing, at subscribing, at delivery and for
// a will.
func TestRolesOnTheWire(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("p"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{Users: []broker.User{
			{Name: "lamp", PasswordHash: string(hash), Role: broker.RoleDevice},
			{Name: "pi", PasswordHash: string(hash), Role: broker.RoleDomain},
			{Name: "eye", PasswordHash: string(hash), Role: broker.RoleReader},
		}})
		var all, seen inbox
		if err := b.Subscribe("dominion/#", all.put); err != nil {
			t.Fatal(err)
		}
		lamp := pipe(t, b, client.Options{User: "lamp", Password: "p", ClientID: "lamp", OnMessage: seen.put})
		if err := lamp.Subscribe(t.Context(), "#"); err != nil {
			t.Fatal(err)
		}
		seen.expect(t)
		b.Publish(topics.Message{Topic: "dominion/domain/pi/command", Payload: []byte("secret"), QoS: 1})
		b.Publish(topics.Message{Topic: "dominion/hub/availability", Payload: []byte("online"), QoS: 1})
		b.Publish(topics.Message{Topic: "zigbee2mqtt/lamp", Payload: []byte("ON"), QoS: 1})
		seen.expect(t, "dominion/hub/availability online", "zigbee2mqtt/lamp ON")
		all.expect(t, "dominion/domain/pi/command secret", "dominion/hub/availability online")

		pi := pipe(t, b, client.Options{User: "pi", Password: "p", ClientID: "pi"})
		if err := pi.Subscribe(t.Context(), "dominion/hub/#", "dominion/domain/other/#"); err == nil || !strings.Contains(err.Error(), "dominion/domain/other/#") {
			t.Errorf("a filter of another domain: %v, want a refusal that names it", err)
		}
		pi.Publish(topics.Message{Topic: "dominion/domain/pi/event", Payload: []byte("1"), QoS: 1})
		pi.Publish(topics.Message{Topic: "dominion/domain/other/event", Payload: []byte("2")}) // QoS 0: dropped
		all.expect(t, "dominion/domain/pi/event 1")

		will := topics.Message{Topic: "dominion/service/web/set", Payload: []byte("OFF"), QoS: 1}
		var line net.Conn
		eye, err := client.Connect(t.Context(), client.Options{User: "eye", Password: "p", ClientID: "eye", Will: &will, Dial: func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			b.Serve(theirs)
			line = ours
			return ours, nil
		}})
		if err != nil {
			t.Fatalf("a reader with an order as its will: %v", err)
		}
		_ = line.Close() // its will is dropped
		<-eye.Done()
		all.expect(t)
		lamp.Close()
		pi.Close()
	})
}

func TestListenErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().String()
	garbage := write(t, "garbage.pem", "no certificate")
	for _, c := range []struct {
		cfg  broker.Config
		want string
	}{
		{broker.Config{Listen: at}, "cannot listen on broker.listen " + at + ": address already in use; another broker (mosquitto?) runs there: stop it or choose another port"},
		{broker.Config{Listen: "127.0.0.1:0", ListenWS: at}, "broker.listen_ws " + at},
		{broker.Config{ListenTLS: "127.0.0.1:0"}, "it needs cert_file and key_file"},
		{broker.Config{ListenTLS: "127.0.0.1:0", CertFile: garbage, KeyFile: garbage}, garbage},
		{broker.Config{ListenWSS: "127.0.0.1:0", CertFile: garbage, KeyFile: garbage}, "broker.listen_wss: cert_file " + garbage},
		{broker.Config{Listen: "nonsense"}, "broker.listen nonsense"},
		{broker.Config{Listen: "192.0.2.1:0"}, "this machine has no such address"},
	} {
		b := start(t, c.cfg)
		if err := b.Listen(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error with %q", c.cfg, err, c.want)
		}
		if n := len(b.Listeners()); n > 0 {
			t.Errorf("%+v: %d listeners are open after an error", c.cfg, n)
		}
	}
}

// certificate writes a certificate for 127.0.0.1 and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return writePair(t, cert, key)
}

// writePair writes a certificate and its key as PEM.
func writePair(t *testing.T, cert []byte, key *ecdsa.PrivateKey) (certFile, keyFile string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))),
		write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	_, urls := listen(t, broker.Config{ListenTLS: "127.0.0.1:0", CertFile: cert, KeyFile: key})
	c, err := client.Connect(t.Context(), client.Options{URL: urls["mqtts"], CAFile: cert, ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	c.Publish(topics.Message{Topic: "a", Payload: make([]byte, 1<<20), QoS: 1})
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	c.Close()
	if _, err := client.Connect(t.Context(), client.Options{URL: urls["mqtts"], ClientID: "c"}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
	plain := strings.Replace(urls["mqtts"], "mqtts", "mqtt", 1)
	if _, err := client.Connect(t.Context(), client.Options{URL: plain, ClientID: "c"}); err == nil || errors.Is(err, client.ErrNotAuthorized) {
		t.Errorf("without TLS: %v", err)
	}
}

func TestWebSocketOrigin(t *testing.T) {
	_, urls := listen(t, broker.Config{ListenWS: "127.0.0.1:0"})
	_, reachable := listen(t, broker.Config{ListenWS: "0.0.0.0:0", AllowAnonymous: true})
	port := func(url string) string { return url[strings.LastIndex(url, ":"):] }
	here, there := port(urls["ws"]), port(reachable["ws"])
	for _, c := range []struct {
		port, host, origin string
		in                 bool
	}{
		{here, "127.0.0.1" + here, "", true},
		{here, "127.0.0.1" + here, "http://127.0.0.1" + here, true},
		{here, "localhost" + here, "http://localhost" + here, true},
		{here, "localhost" + here, "http://localhost:8080", false}, // the page of a service on the same host
		{here, "localhost" + here, "https://localhost" + here, false},
		{here, "localhost" + here, "http://127.0.0.1" + here, false},
		{here, "[::1]" + here, "http://[::1]" + here, true},
		{here, "[::1]" + here, "http://[::1]", false},
		{here, "127.0.0.1" + here, "http://evil.example", false},
		{here, "127.0.0.1" + here, "null", false},
		{here, "127.0.0.1" + here, "http://127.0.0.1.evil.example", false},
		{here, "evil.example" + here, "http://evil.example" + here, false}, // its name was given our address
		{there, "hub.lan" + there, "http://HUB.lan" + there, true},
		{there, "hub.lan", "http://hub.lan", true}, // port 80 of something before it
		{there, "hub.lan" + there, "http://hub.lan:8123", false},
		{there, "hub.lan" + there, "http://evil.example", false},
		{there, "evil.example" + there, "http://evil.example" + there, false}, // the same where everybody is let in
		{there, "192.0.2.1" + there, "http://192.0.2.1" + there, true},
	} {
		header := http.Header{"Host": {c.host}}
		if c.origin != "" {
			header.Set("Origin", c.origin)
		}
		d := websocket.Dialer{Subprotocols: []string{"mqtt"}}
		ws, response, err := d.Dial("ws://127.0.0.1"+c.port+"/mqtt", header)
		if response == nil {
			t.Fatal(err)
		}
		if (err == nil) != c.in || !c.in && response.StatusCode != http.StatusForbidden {
			t.Errorf("host %s origin %s: %s", c.host, c.origin, response.Status)
		}
		if err != nil {
			continue
		}
		if ws.Subprotocol() != "mqtt" {
			t.Errorf("subprotocol %q", ws.Subprotocol())
		}
		// CONNECT in two WebSocket messages, as it may be (MQTT-6.0.0-2)
		connect := encode(t, packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
			Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, ClientIdentifier: "browser"},
		})
		for _, part := range [][]byte{connect[:3], connect[3:]} {
			if err := ws.WriteMessage(websocket.BinaryMessage, part); err != nil {
				t.Fatal(err)
			}
		}
		_, answer, err := ws.ReadMessage()
		if want := []byte{0x20, 2, 0, 0}; err != nil || !bytes.Equal(answer, want) {
			t.Errorf("CONNACK is %x, %v", answer, err)
		}
		_ = ws.Close()
	}
}

func encode(t *testing.T, pk packets.Packet) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	pk.Mods.AllowResponseInfo = true
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&b)
	case packets.Subscribe:
		err = pk.SubscribeEncode(&b)
	case packets.Publish:
		err = pk.PublishEncode(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// connect5 is a client of MQTT 5, by hand.
func connect5(t *testing.T, b *broker.Broker) (net.Conn, *bufio.Reader) {
	t.Helper()
	ours, theirs := net.Pipe()
	b.Serve(theirs)
	r := bufio.NewReader(ours)
	send(t, ours, encode(t, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, ClientIdentifier: "five", Keepalive: 60},
	}))
	if kind, _ := receive(t, r); kind != packets.Connack {
		t.Fatalf("packet type %d instead of CONNACK", kind)
	}
	return ours, r
}

func send(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, r *bufio.Reader) (kind byte, pk packets.Packet) {
	t.Helper()
	first, err := r.ReadByte()
	if err != nil {
		t.Fatal(err)
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		t.Fatal(err)
	}
	n, _, err := packets.DecodeLength(r)
	if err != nil {
		t.Fatal(err)
	}
	pk.FixedHeader.Remaining = n
	body := make([]byte, n)
	for at := 0; at < n; {
		m, err := r.Read(body[at:])
		if err != nil {
			t.Fatal(err)
		}
		at += m
	}
	pk.ProtocolVersion = 5
	if pk.FixedHeader.Type == packets.Publish {
		if err := pk.PublishDecode(body); err != nil {
			t.Fatal(err)
		}
	}
	if pk.FixedHeader.Type == packets.Disconnect {
		if err := pk.DisconnectDecode(body); err != nil {
			t.Fatal(err)
		}
	}
	return pk.FixedHeader.Type, pk
}

// Response topic and correlation data pass both ways; at the stop a client of
// MQTT 5 is told.
func TestMQTT5RequestAndResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{})
		var asked topics.Message
		if err := b.Subscribe("dominion/request/+", func(m topics.Message) {
			asked = m
			b.Publish(topics.Message{Topic: m.ResponseTopic, Correlation: m.Correlation, Payload: []byte("yes"), QoS: 1})
		}); err != nil {
			t.Fatal(err)
		}
		c, r := connect5(t, b)
		send(t, c, encode(t, packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, ProtocolVersion: 5, PacketID: 1,
			Filters: packets.Subscriptions{{Filter: "my/answers"}},
		}))
		if kind, _ := receive(t, r); kind != packets.Suback {
			t.Fatalf("packet type %d instead of SUBACK", kind)
		}
		send(t, c, encode(t, packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish}, ProtocolVersion: 5,
			TopicName: "dominion/request/status", Payload: []byte("{}"), Properties: packets.Properties{ResponseTopic: "my/answers", CorrelationData: []byte{1, 2}},
		}))
		_, answer := receive(t, r)
		if asked.ResponseTopic != "my/answers" || answer.TopicName != "my/answers" || string(answer.Payload) != "yes" || !bytes.Equal(answer.Properties.CorrelationData, []byte{1, 2}) {
			t.Errorf("asked %+v, answered %s %s %x", asked, answer.TopicName, answer.Payload, answer.Properties.CorrelationData)
		}
		go b.Stop(context.Background())
		if kind, pk := receive(t, r); kind != packets.Disconnect || pk.ReasonCode != packets.ErrServerShuttingDown.Code {
			t.Errorf("packet type %d reason %x at the stop", kind, pk.ReasonCode)
		}
		_ = c.Close()
	})
}

// The packet that makes the engine's decoder panic ends its own connection.
func TestMalformedPacketEndsItsConnectionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, broker.Config{})
		well := pipe(t, b, client.Options{ClientID: "well"})
		c, r := connect5(t, b)
		send(t, c, []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'})
		for { // a DISCONNECT may come first
			if _, err := r.ReadByte(); err != nil {
				break
			}
		}
		well.Publish(topics.Message{Topic: "a", QoS: 1})
		if err := well.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		well.Close()
	})
}

// Opening the broker without users shuts everybody out, this machine included.
func TestClosedDoorsAreNamed(t *testing.T) {
	user := broker.User{Name: "x", PasswordHash: "$2y$05$rGqVaVBKVSXmrjzdJcWHjOWCpbmNMKLIgi6Qn4Rf1OMGOHYpBtqiC", Role: broker.RoleAdmin}
	for _, c := range []struct {
		name   string
		config broker.Config
		warned bool
	}{
		{"open", broker.Config{Listen: "0.0.0.0:0"}, true},
		{"loopback", broker.Config{Listen: "127.0.0.1:0"}, false},
		{"anonymous", broker.Config{Listen: "0.0.0.0:0", AllowAnonymous: true}, false},
		{"users", broker.Config{Listen: "0.0.0.0:0", Users: []broker.User{user}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var said bytes.Buffer
			b, err := broker.New(c.config, slog.New(slog.NewTextHandler(&said, nil)))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Listen(); err != nil {
				t.Fatal(err)
			}
			stop(t, b)
			if warned := strings.Contains(said.String(), "no client can connect here"); warned != c.warned {
				t.Errorf("warned %v, want %v: %s", warned, c.warned, said.String())
			}
		})
	}
}
