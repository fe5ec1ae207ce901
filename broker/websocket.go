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

// headerSize bounds what a client may say to ask for a WebSocket.
const headerSize = 16 << 10

// The listeners of HTTP requests that are not named by a scheme. Who comes by the
// first needs no user, who comes by the second always does.
const (
	loopbackHTTP  = "http-loopback"  // a program of this machine, at a loopback listener
	forwardedHTTP = "http-forwarded" // through a proxy, at a loopback listener
)

// HTTPListener is where an HTTP request came in.
type HTTPListener struct {
	Name   string // what clients are listed with: http, https; ws and wss are the broker's own
	Policy origin.Policy
}

// serveWebSocket owns the listener of MQTT over WebSocket (MQTT 3.1.1, 6).
func (b *Broker) serveWebSocket(l *listener) {
	server := http.Server{
		// The time is that of the whole request: a body that never comes would
		// keep its connection for ever. The upgrade takes it away.
		ReadTimeout:    b.connectTimeout(),
		WriteTimeout:   b.connectTimeout(),
		IdleTimeout:    b.connectTimeout(),
		MaxHeaderBytes: headerSize,
		ConnState:      b.lobbied(),
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

// WebSocket returns the handler of MQTT over WebSocket for requests of a
// listener.
func (b *Broker) WebSocket(l HTTPListener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := l.named(l.Policy.Inspect(r))
		if ws := l.upgrade(w, r, b.anonymousAt(name), &b.refusals, b.log); ws != nil {
			b.take(name, ws)
		}
	})
}

// upgrader's CheckOrigin lets all pass: they are checked before, with the reason.
var upgrader = websocket.Upgrader{
	Subprotocols: []string{"mqtt", "mqttv3.1"},
	CheckOrigin:  func(*http.Request) bool { return true },
}

// upgrade answers a request with a WebSocket, or refuses it and returns nil. A
// browser sends an Origin: it must be the listener's own, or any page that a person
// looks at could speak to the broker in that person's name.
func (l HTTPListener) upgrade(w http.ResponseWriter, r *http.Request, anonymous bool, refused *refusals, log *slog.Logger) *webSocket {
	from := l.Policy.Inspect(r)
	err := l.Policy.CheckPage(r, anonymous)
	var c *websocket.Conn
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
	} else {
		c, err = upgrader.Upgrade(w, r, nil) // answers the request where it fails
	}
	if err != nil {
		if refused.tell(from.Remote, err.Error(), time.Now()) {
			log.Warn("WebSocket refused", "remote", from.Remote, "origin", short(r.Header.Get("Origin")), "host", short(r.Host), "error", err)
		}
		return nil
	}
	ws := newWebSocket(c)
	if from.Remote != r.RemoteAddr {
		ws.remote = proxied(from.Remote)
	}
	return ws
}

// named returns what a connection's listener is called. At a loopback listener
// only a program of this machine needs no user.
func (l HTTPListener) named(from origin.Request) string {
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

// proxied is the address of a client as a trusted proxy names it.
type proxied string

func (p proxied) Network() string { return "tcp" }
func (p proxied) String() string  { return string(p) }

// lobbied has a connection wait in the engine's lobby until it is a WebSocket,
// which waits there by itself, or over.
func (b *Broker) lobbied() func(net.Conn, http.ConnState) {
	var mu sync.Mutex
	leaves := make(map[net.Conn]func())
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			leave := b.engine.Handshakes().Add(hostOf(c.RemoteAddr().String()), func() { _ = c.Close() })
			mu.Lock()
			leaves[c] = leave
			mu.Unlock()
		case http.StateHijacked, http.StateClosed:
			mu.Lock()
			leave := leaves[c]
			delete(leaves, c)
			mu.Unlock()
			if leave != nil {
				leave()
			}
		}
	}
}
