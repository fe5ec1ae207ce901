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

// The limits of relayed connections. What a client may do is decided by the broker
// that it is relayed to.
const (
	relayMaxConns      = 256 // connections
	relayMaxPerAddress = 64  // of one address
	// relayDialTimeout bounds connecting to the broker.
	relayDialTimeout = 5 * time.Second
	// relayFirstByteTimeout bounds the wait for the client's first bytes.
	relayFirstByteTimeout = 10 * time.Second
	// relayIdleTimeout is the time without a byte in either direction.
	relayIdleTimeout = 30 * time.Minute
	// relayDrainTime is for the rest of one direction after the end of the other.
	relayDrainTime = time.Second
	// relayWriteTimeout is for a peer that does not read.
	relayWriteTimeout = 30 * time.Second
	relayBufferSize   = 8 << 10
)

// Relay connects WebSockets with a broker elsewhere. Bytes pass unchanged; users are
// that broker's. The unexported fields need no initialisation.
type Relay struct {
	// Dial opens a connection to the broker.
	Dial func(context.Context) (net.Conn, error)
	Log  *slog.Logger

	logLimit logLimiter

	mu     sync.Mutex
	closed bool
	open   map[*relayedConn]struct{}
	active sync.WaitGroup
}

// relayedConn is one connection.
type relayedConn struct {
	address string
	ctx     context.Context
	end     context.CancelFunc
}

// WebSocket returns the handler for requests of a listener, like Broker.WebSocket.
// Origins are checked as if the broker admitted anonymous clients, which is unknown
// here.
func (y *Relay) WebSocket(l HTTPListener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !websocket.IsWebSocketUpgrade(r) || l.Policy.CheckPage(r, true) != nil {
			l.upgrade(w, r, true, &y.logLimit, y.Log) // it answers with the error
			return
		}
		from := l.Policy.Inspect(r)
		one, err := y.admit(r.Context(), hostOf(from.Remote))
		if err != nil {
			y.refuse(w, from.Remote, http.StatusServiceUnavailable, err)
			return
		}
		defer y.release(one)
		dialing, cancel := context.WithTimeout(one.ctx, relayDialTimeout)
		server, err := y.Dial(dialing)
		cancel()
		if err != nil {
			y.refuse(w, from.Remote, http.StatusBadGateway, err)
			return
		}
		defer server.Close()
		if isLoopbackAddr(server.RemoteAddr()) && !from.Local {
			y.refuse(w, from.Remote, http.StatusForbidden, errLocalBroker)
			return
		}
		ws := l.upgrade(w, r, true, &y.logLimit, y.Log)
		if ws == nil {
			return
		}
		defer ws.Close()
		relay(one.ctx, ws, server)
	})
}

// errLocalBroker protects a broker that admits programs of its machine: to it every
// relayed client would be one.
var errLocalBroker = errors.New("broker.external is a loopback address, and you are not on this machine: set it to an address of the broker that other machines reach")

// isLoopbackAddr reports whether an address is on this machine.
func isLoopbackAddr(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// refuse answers a request with an error, and logs it.
func (y *Relay) refuse(w http.ResponseWriter, remote string, code int, err error) {
	http.Error(w, err.Error(), code)
	if y.logLimit.allow(remote, err.Error(), time.Now()) {
		y.Log.Warn("WebSocket refused", "remote", remote, "error", err)
	}
}

// admit counts a connection, or returns why it is not admitted.
func (y *Relay) admit(ctx context.Context, address string) (*relayedConn, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	of := 0
	for other := range y.open {
		if other.address == address {
			of++
		}
	}
	if y.closed {
		return nil, errors.New("the hub is stopping")
	}
	if len(y.open) >= relayMaxConns || of >= relayMaxPerAddress {
		return nil, fmt.Errorf("too many connections are relayed: at most %d, and %d of one address", relayMaxConns, relayMaxPerAddress)
	}
	if y.open == nil {
		y.open = make(map[*relayedConn]struct{})
	}
	one := &relayedConn{address: address}
	one.ctx, one.end = context.WithCancel(ctx)
	y.open[one] = struct{}{}
	y.active.Add(1)
	return one, nil
}

// release ends and removes a connection.
func (y *Relay) release(one *relayedConn) {
	one.end()
	y.mu.Lock()
	delete(y.open, one)
	y.mu.Unlock()
	y.active.Done()
}

// Close ends all connections and waits for them.
func (y *Relay) Close() {
	y.mu.Lock()
	y.closed = true
	for one := range y.open {
		one.end()
	}
	y.mu.Unlock()
	y.active.Wait()
}

// relay copies in both directions until both have ended: after the end of one the
// other has a moment for its rest.
func relay(ctx context.Context, client *webSocket, server net.Conn) {
	closeBoth := func() {
		_ = client.Close()
		_ = server.Close()
	}
	ended := context.AfterFunc(ctx, closeBoth)
	defer ended()
	idle := time.AfterFunc(relayIdleTimeout, closeBoth)
	defer idle.Stop()
	endDirection := func(to net.Conn) {
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		last := time.Now().Add(relayDrainTime)
		_ = client.SetReadDeadline(last)
		_ = server.SetReadDeadline(last)
	}
	_ = client.SetReadDeadline(time.Now().Add(relayFirstByteTimeout))
	var down sync.WaitGroup
	down.Go(func() {
		copyConn(client, server, func() { idle.Reset(relayIdleTimeout) })
		endDirection(client.NetConn())
	})
	began := sync.OnceFunc(func() { _ = client.SetReadDeadline(time.Time{}) })
	copyConn(server, client, func() { began(); idle.Reset(relayIdleTimeout) })
	endDirection(server)
	down.Wait()
}

// copyConn copies until either side ends; passed is called after each read.
func copyConn(to, from net.Conn, passed func()) {
	buffer := make([]byte, relayBufferSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			passed()
			if to.SetWriteDeadline(time.Now().Add(relayWriteTimeout)) != nil {
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
