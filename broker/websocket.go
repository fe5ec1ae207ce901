package broker

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// headerSize bounds what a client may say to ask for a WebSocket.
const headerSize = 16 << 10

// serveWebSocket owns the listener of MQTT over WebSocket (MQTT 3.1.1, 6). A
// browser sends an Origin: it must be a page of this host, or any page a
// person looks at could speak to the broker in their name.
func (b *Broker) serveWebSocket(l *listener) {
	upgrader := websocket.Upgrader{
		Subprotocols: []string{"mqtt"},
		CheckOrigin: func(r *http.Request) bool {
			_, page := r.Header["Origin"]
			return sameHost(r, l.private) && (!page || atHome(hostname(r.Host)) || !b.anonymousAt(l.scheme))
		},
	}
	server := http.Server{
		// The time is that of the whole request: a body that never comes would
		// keep its connection for ever. The upgrade takes it away.
		ReadTimeout:    b.connectTimeout(),
		WriteTimeout:   b.connectTimeout(),
		IdleTimeout:    b.connectTimeout(),
		MaxHeaderBytes: headerSize,
		ConnState:      b.lobbied(),
		ErrorLog:       slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := upgrader.Upgrade(w, r, nil) // answers the request where it fails
			if err != nil {
				if b.refusals.tell(r.RemoteAddr, err.Error(), time.Now()) {
					b.log.Warn("WebSocket refused", "remote", r.RemoteAddr, "origin", short(r.Header.Get("Origin")), "host", short(r.Host), "error", err)
				}
				return
			}
			b.take(l.scheme, newWebSocket(c))
		}),
	}
	err := server.Serve(l.Listener)
	if !errors.Is(err, net.ErrClosed) {
		b.log.Error("the WebSocket listener ended", "error", err)
	}
	_ = server.Close()
}

// lobbied has a connection wait in the engine's lobby until it is a WebSocket,
// which waits there by itself, or over.
func (b *Broker) lobbied() func(net.Conn, http.ConnState) {
	var mu sync.Mutex
	leaves := make(map[net.Conn]func())
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			leave := b.engine.Lobby().Enter(hostOf(c.RemoteAddr().String()), func() { _ = c.Close() })
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

// sameHost tells whether a request comes from a page of the host it goes to, or
// from no page. Where the listener is bound to loopback, which is trusted, the
// host must be loopback by name: a page can give its own name our address.
func sameHost(r *http.Request, loopback bool) bool {
	host := hostname(r.Host)
	if loopback && !isLoopback(host) {
		return false
	}
	origins, present := r.Header["Origin"]
	if !present {
		return true
	}
	if len(origins) != 1 {
		return false
	}
	origin, err := url.Parse(origins[0])
	return err == nil && origin.Hostname() != "" && strings.EqualFold(origin.Hostname(), host)
}

// atHome tells whether a host is named in a way that the owner of a page on the
// Internet cannot give to an address of this home: a page whose own name leads
// here (DNS rebinding) is of the same host. Where everybody is let in it would
// do what it likes.
func atHome(host string) bool {
	if net.ParseIP(host) != nil || !strings.Contains(host, ".") {
		return true
	}
	host = strings.ToLower(host)
	for _, ending := range []string{".local", ".lan", ".home", ".internal", ".home.arpa", ".localhost"} {
		if strings.HasSuffix(host, ending) {
			return true
		}
	}
	return false
}

func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

func hostname(hostport string) string {
	u := url.URL{Host: hostport}
	return u.Hostname()
}
