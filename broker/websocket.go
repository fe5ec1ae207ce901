package broker

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/jmbarzee/dominion/broker/origin"
)

// headerSize bounds the header of a request for a WebSocket.
const headerSize = 16 << 10

// Names of HTTP listeners that are not schemes. Clients of the first need no user,
// clients of the second always do.
const (
	// loopbackHTTP is for programs of this machine, at a loopback listener.
	loopbackHTTP = "http-loopback"
	// forwardedHTTP is for clients behind a proxy, at a loopback listener.
	forwardedHTTP = "http-forwarded"
)

// HTTPListener is the listener of an HTTP request.
type HTTPListener struct {
	// Name is the listener's name in listings: http, https; ws and wss are the
	// broker's own.
	Name   string
	Policy origin.Policy
}

// serveWebSocket serves a listener of MQTT over WebSocket (MQTT 3.1.1, 6).
func (b *Broker) serveWebSocket(l *listener) {
	server := http.Server{
		// These are for the whole request: a body that never arrives would hold its
		// connection for ever. The upgrade removes them.
		ReadTimeout:    b.connectTimeout(),
		WriteTimeout:   b.connectTimeout(),
		IdleTimeout:    b.connectTimeout(),
		MaxHeaderBytes: headerSize,
		ConnState:      b.trackHandshakes(),
		ErrorLog:       slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
		Handler: b.WebSocket(HTTPListener{l.scheme, origin.Policy{
			Loopback: l.private, Secure: l.secure(), Allowed: b.config.AllowedOrigins, Proxies: b.config.TrustedProxies,
		}}),
	}
	err := server.Serve(l.Listener)
	if !errors.Is(err, net.ErrClosed) {
		b.log.Error("the WebSocket listener ended", "error", err)
	}
	_ = server.Close()
}

// WebSocket returns the handler of MQTT over WebSocket for requests of a listener.
func (b *Broker) WebSocket(l HTTPListener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := l.listenerName(l.Policy.Inspect(r))
		if ws := l.upgrade(w, r, b.anonymousAt(name), &b.logLimit, b.log); ws != nil {
			b.serve(name, ws)
		}
	})
}

// upgrader accepts all origins: they are checked before, with a reason.
var upgrader = websocket.Upgrader{
	Subprotocols: []string{"mqtt", "mqttv3.1"},
	CheckOrigin:  func(*http.Request) bool { return true },
}

// upgrade answers a request with a WebSocket, or refuses it and returns nil. A browser
// sends an Origin: it must be the listener's own, or any page could use the broker in
// the name of the person who looks at it.
func (l HTTPListener) upgrade(w http.ResponseWriter, r *http.Request, anonymous bool, refused *logLimiter, log *slog.Logger) *webSocket {
	from := l.Policy.Inspect(r)
	err := l.Policy.CheckPage(r, anonymous)
	var c *websocket.Conn
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
	} else {
		c, err = upgrader.Upgrade(w, r, nil) // answers the request if it fails
	}
	if err != nil {
		if refused.allow(from.Remote, err.Error(), time.Now()) {
			log.Warn("WebSocket refused", "remote", from.Remote, "origin", truncate(r.Header.Get("Origin")), "host", truncate(r.Host), "error", err)
		}
		return nil
	}
	ws := newWebSocket(c)
	if from.Remote != r.RemoteAddr {
		ws.remote = proxied(from.Remote)
	}
	return ws
}

// listenerName returns the listener name of a connection. At a loopback listener only
// a program of this machine needs no user.
func (l HTTPListener) listenerName(from origin.Request) string {
	if !l.Policy.Loopback {
		return l.Name
	}
	if !from.Local {
		return forwardedHTTP
	}
	if l.Name == "http" || l.Name == "https" {
		return loopbackHTTP
	}
	return l.Name
}

// proxied is the address of a client as a trusted proxy reports it.
type proxied string

func (p proxied) Network() string { return "tcp" }
func (p proxied) String() string  { return string(p) }

// trackHandshakes registers HTTP connections as handshakes until they are WebSockets,
// which register themselves, or closed.
func (b *Broker) trackHandshakes() func(net.Conn, http.ConnState) {
	var mu sync.Mutex
	doneFuncs := make(map[net.Conn]func())
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			done := b.engine.Handshakes().Add(hostOf(c.RemoteAddr().String()), func() { _ = c.Close() })
			mu.Lock()
			doneFuncs[c] = done
			mu.Unlock()
		case http.StateHijacked, http.StateClosed:
			mu.Lock()
			done := doneFuncs[c]
			delete(doneFuncs, c)
			mu.Unlock()
			if done != nil {
				done()
			}
		}
	}
}
