package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// The limits of relayed connections. What a client may do is the matter of the
// broker that it is relayed to.
const (
	relayMost       = 256              // connections
	relayOfAddress  = 64               // of one address
	relayDial       = 5 * time.Second  // to reach the broker
	relayFirst      = 10 * time.Second // until the client's first bytes
	relayIdle       = 30 * time.Minute // without a byte in either direction
	relayLast       = time.Second      // for the rest of a direction after the end of the other
	relayWrite      = 30 * time.Second // for a peer that does not read
	relayBufferSize = 8 << 10
)

// Relay connects WebSockets with a broker elsewhere: bytes pass as they are, the
// user is that broker's. The zero value of what is not exported is ready.
type Relay struct {
	// Dial opens a connection to the broker.
	Dial func(context.Context) (net.Conn, error)
	Log  *slog.Logger

	refusals refusals

	mu     sync.Mutex
	closed bool
	open   map[*relayed]struct{}
	active sync.WaitGroup
}

// relayed is one connection.
type relayed struct {
	address string
	ctx     context.Context
	end     context.CancelFunc
}

// WebSocket returns the handler for requests of a listener, as Broker.WebSocket.
// Whether the broker needs users is not known here: Origin is checked as where it
// does not.
func (y *Relay) WebSocket(l HTTPListener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !websocket.IsWebSocketUpgrade(r) || l.Policy.CheckPage(r, true) != nil {
			l.upgrade(w, r, true, &y.refusals, y.Log) // refuses it
			return
		}
		from := l.Policy.Inspect(r)
		one, err := y.enter(r.Context(), hostOf(from.Remote))
		if err != nil {
			y.refuse(w, from.Remote, http.StatusServiceUnavailable, err)
			return
		}
		defer y.leave(one)
		dialing, cancel := context.WithTimeout(one.ctx, relayDial)
		server, err := y.Dial(dialing)
		cancel()
		if err != nil {
			y.refuse(w, from.Remote, http.StatusBadGateway, err)
			return
		}
		defer server.Close()
		if isLocal(server.RemoteAddr()) && !from.Local {
			y.refuse(w, from.Remote, http.StatusForbidden, errLocalBroker)
			return
		}
		ws := l.upgrade(w, r, true, &y.refusals, y.Log)
		if ws == nil {
			return
		}
		defer ws.Close()
		relay(one.ctx, ws, server)
	})
}

// errLocalBroker protects a broker that lets in programs of its machine: to it
// everybody would be one.
var errLocalBroker = errors.New("broker.external is an address of loopback, and you are not on this machine: write there an address of the broker that others reach")

func isLocal(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

func (y *Relay) refuse(w http.ResponseWriter, remote string, code int, err error) {
	http.Error(w, err.Error(), code)
	if y.refusals.tell(remote, err.Error(), time.Now()) {
		y.Log.Warn("WebSocket refused", "remote", remote, "error", err)
	}
}

// enter counts a connection, or returns why there may be no further one.
func (y *Relay) enter(ctx context.Context, address string) (*relayed, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	of := 0
	for other := range y.open {
		if other.address == address {
			of++
		}
	}
	switch {
	case y.closed:
		return nil, errors.New("the hub stops")
	case len(y.open) >= relayMost || of >= relayOfAddress:
		return nil, fmt.Errorf("too many connections are relayed: at most %d, %d of one address", relayMost, relayOfAddress)
	}
	if y.open == nil {
		y.open = make(map[*relayed]struct{})
	}
	one := &relayed{address: address}
	one.ctx, one.end = context.WithCancel(ctx)
	y.open[one] = struct{}{}
	y.active.Add(1)
	return one, nil
}

func (y *Relay) leave(one *relayed) {
	one.end()
	y.mu.Lock()
	delete(y.open, one)
	y.mu.Unlock()
	y.active.Done()
}

// Close ends what is relayed and waits for it.
func (y *Relay) Close() {
	y.mu.Lock()
	y.closed = true
	for one := range y.open {
		one.end()
	}
	y.mu.Unlock()
	y.active.Wait()
}

// relay copies in both directions until both are over: after the end of one the
// other has a moment for what is under way.
func relay(ctx context.Context, client *webSocket, server net.Conn) {
	closeBoth := func() {
		_ = client.Close()
		_ = server.Close()
	}
	ended := context.AfterFunc(ctx, closeBoth)
	defer ended()
	idle := time.AfterFunc(relayIdle, closeBoth)
	defer idle.Stop()
	over := func(to net.Conn) {
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		last := time.Now().Add(relayLast)
		_ = client.SetReadDeadline(last)
		_ = server.SetReadDeadline(last)
	}
	_ = client.SetReadDeadline(time.Now().Add(relayFirst))
	var down sync.WaitGroup
	down.Go(func() {
		pass(client, server, func() { idle.Reset(relayIdle) })
		over(client.NetConn())
	})
	began := sync.OnceFunc(func() { _ = client.SetReadDeadline(time.Time{}) })
	pass(server, client, func() { began(); idle.Reset(relayIdle) })
	over(server)
	down.Wait()
}

// pass copies until either ends; passed is called after each piece was read.
func pass(to, from net.Conn, passed func()) {
	buffer := make([]byte, relayBufferSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			passed()
			if to.SetWriteDeadline(time.Now().Add(relayWrite)) != nil {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
