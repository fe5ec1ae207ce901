package web_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/web"
)

// certificate writes a certificate for 127.0.0.1 that is its own authority, and its key.
// Its common name is laptop.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "laptop"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// overTLS serves health by TLS and returns the address.
func overTLS(t *testing.T, cfg config.Dominion) string {
	t.Helper()
	return servedByTLS(t, cfg, func(broker.HTTPListener) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("MQTT without TLS at the port of TLS") })
	})
}

func servedByTLS(t *testing.T, cfg config.Dominion, mqtt func(broker.HTTPListener) http.Handler) string {
	t.Helper()
	cfg.HTTP.ListenTLS = "127.0.0.1:0"
	if cfg.HTTP.CertFile == "" {
		cfg.HTTP.CertFile, cfg.HTTP.KeyFile = certificate(t)
	}
	if cfg.Broker.RequireCertificate {
		cfg.Broker.ClientCAFile = cfg.HTTP.CertFile
	}
	s, err := web.Listen(cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	served := s.Serve(t.Context(), web.Handlers{MQTT: mqtt})
	t.Cleanup(served)
	return s.Addresses()[0].String()
}

// HTTP at the port of TLS is sent to HTTPS, whatever it asks for, and reaches
// nothing else.
func TestPlainHTTPAtTheTLSPort(t *testing.T) {
	for _, require := range []bool{false, true} {
		at := overTLS(t, config.Dominion{Broker: config.Broker{RequireCertificate: require}})
		for _, tt := range []struct{ request, code, location string }{
			{"GET / HTTP/1.1\r\nHost: hub.lan:8443\r\n\r\n", "308", "https://hub.lan:8443/"},
			{"GET /a%20b/?c=d&e HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n", "308", "https://[::1]:8443/a%20b/?c=d&e"},
			{"GET //evil.example/ HTTP/1.1\r\nHost: hub.lan\r\n\r\n", "308", "https://hub.lan//evil.example/"},
			{"GET http://evil.example/x HTTP/1.1\r\nHost: hub.lan\r\n\r\n", "308", "https://evil.example/x"}, // RFC 9112, 3.2.2: this is its host
			{"POST /v2/ HTTP/1.1\r\nHost: hub.lan\r\nContent-Length: 2\r\n\r\nab", "308", "https://hub.lan/v2/"},
			{"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "308", "https://localhost/metrics"},
			{"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", "308", "https://localhost/mqtt"},
			{"GET / HTTP/1.0\r\n\r\n", "400", ""},
			{"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", "400", ""},
			{"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04plain\r\n\r\n", "400", ""},
		} {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			reader := bufio.NewReader(c)
			answer, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatalf("%q: %v", tt.request, err)
			}
			if got := fmt.Sprint(answer.StatusCode); got != tt.code || answer.Header.Get("Location") != tt.location {
				t.Errorf("%q: %s %q, want %s %q", tt.request, got, answer.Header.Get("Location"), tt.code, tt.location)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			if _, err := reader.ReadByte(); err == nil {
				t.Errorf("%q: the connection goes on", tt.request)
			}
		}
	}
}

// TLS goes on as before: byte by byte, with and without a client's certificate.
func TestTLSBesidePlainHTTP(t *testing.T) {
	at := overTLS(t, config.Dominion{HTTP: config.HTTP{FrameAncestors: []string{"http://ha.local:8123"}}})
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("https://" + at + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != 200 || string(body) != "ok\n" {
		t.Errorf("%s: %q", response.Status, body)
	}
	if got := response.Header.Get("Content-Security-Policy"); got != "frame-ancestors 'self' http://ha.local:8123" {
		t.Errorf("Content-Security-Policy is %q", got)
	}
	at = overTLS(t, config.Dominion{Broker: config.Broker{RequireCertificate: true}})
	if _, err := (&http.Client{Transport: transport}).Get("https://" + at + "/healthz"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without a certificate that is required: %v", err)
	}
}

// The certificate of a client is its user's, also over WebSocket.
func TestClientCertificateOverWebSocket(t *testing.T) {
	b, err := broker.New(broker.Config{Users: []broker.User{{Name: "laptop", Certificate: true, Role: broker.RoleDevice}}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Stop(context.Background()) })
	cfg := config.Dominion{Broker: config.Broker{RequireCertificate: true}}
	cfg.HTTP.CertFile, cfg.HTTP.KeyFile = certificate(t)
	at := servedByTLS(t, cfg, func(l broker.HTTPListener) http.Handler {
		l.Policy.Loopback = false // who comes from elsewhere needs a user
		return b.WebSocket(l)
	})
	pair, err := tls.LoadX509KeyPair(cfg.HTTP.CertFile, cfg.HTTP.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}}
	ws, _, err := dialer.Dial("wss://"+at+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.BinaryMessage, []byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := ws.ReadMessage(); err != nil || string(got) != "\x20\x02\x00\x00" {
		t.Errorf("CONNACK is %x, %v", got, err)
	}
}
