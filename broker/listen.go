package broker

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Listener is an address that the broker listens on.
type Listener struct {
	// Scheme is mqtt, mqtts, ws, wss or unix.
	Scheme string
	// Addr is as bound.
	Addr net.Addr
}

// local is the listener name of connections passed to Serve; other listeners are named
// by their scheme.
const local = "local"

// listener is an open listener.
type listener struct {
	scheme string
	net.Listener
	// private is set if only this machine reaches it: loopback, or a Unix socket,
	// which its mode protects.
	private bool
}

// secure reports whether the listener uses TLS.
func (l *listener) secure() bool { return l.scheme == "mqtts" || l.scheme == "wss" }

// webSocket reports whether the listener is for MQTT over WebSocket.
func (l *listener) webSocket() bool { return l.scheme == "ws" || l.scheme == "wss" }

// Listen opens the configured listeners: all of them, or none and an error that names
// the keys.
func (b *Broker) Listen() error {
	var all []*listener
	var faults []error
	for _, at := range []struct{ key, scheme, address string }{
		{"broker.listen", "mqtt", b.config.Listen},
		{"broker.listen_tls", "mqtts", b.config.ListenTLS},
		{"broker.listen_ws", "ws", b.config.ListenWS},
		{"broker.listen_wss", "wss", b.config.ListenWSS},
		{"broker.listen_unix", "unix", b.config.ListenUnix},
	} {
		if at.address == "" {
			continue
		}
		l, err := open(at.scheme, at.address)
		if err != nil && at.scheme == "mqtts" && b.config.OptionalTLS {
			b.retryListen(at.key, at.address, err)
			continue
		}
		if err != nil {
			faults = append(faults, listenError(at.key, at.address, err))
			continue
		}
		all = append(all, l)
		if l.secure() {
			if err := b.addTLS(l); err != nil {
				faults = append(faults, fmt.Errorf("cannot listen on %s: %w", at.key, err))
			}
		}
	}
	if err := errors.Join(faults...); err != nil {
		for _, l := range all {
			_ = l.Close()
		}
		return err
	}
	b.warnUnusable(all)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners = append(b.listeners, all...)
	for _, l := range all {
		if l.webSocket() {
			b.accepting.Go(func() { b.serveWebSocket(l) })
		} else {
			b.accepting.Go(func() { b.accept(l) })
		}
	}
	return nil
}

// open opens a listener.
func open(scheme, address string) (*listener, error) {
	if scheme == "unix" {
		l, err := listenUnix(address)
		return &listener{scheme: scheme, Listener: l, private: true}, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	at, ok := l.Addr().(*net.TCPAddr)
	if ok {
		l = zonedListener{l, withZone(at, address)}
	}
	return &listener{scheme: scheme, Listener: l, private: ok && at.IP.IsLoopback()}, nil
}

// zonedListener is a listener whose address includes its zone.
type zonedListener struct {
	net.Listener
	addr net.Addr
}

func (z zonedListener) Addr() net.Addr { return z.addr }

// withZone returns the address of a listener with its configured zone: the system does
// not return that of a link-local address.
func withZone(at *net.TCPAddr, configured string) *net.TCPAddr {
	host, _, err := net.SplitHostPort(configured)
	if _, zone, found := strings.Cut(host, "%"); err == nil && found && at.Zone == "" && at.IP.IsLinkLocalUnicast() {
		zoned := *at
		zoned.Zone = zone
		return &zoned
	}
	return at
}

// warnUnusable logs the listeners on which no client can log in, not even from this
// machine: a broker that was opened to the network without users.
func (b *Broker) warnUnusable(all []*listener) {
	if a := b.access.Load(); a.anonymous || len(a.byName) > 0 {
		return
	}
	for _, l := range all {
		if !l.private && !(l.secure() && b.config.Identity != nil) { // certificates are enough there
			b.log.Warn("no client can connect here: add [[broker.users]], or set allow_anonymous = true if you trust everyone on the network", "listener", l.Addr().String())
		}
	}
}

// OpenToAll reports whether other machines reach a listener that admits anonymous
// clients, which are admins, although there are users: their passwords and roles
// protect nothing then. openHTTP is set if other machines reach an HTTP listener
// outside the broker.
func (b *Broker) OpenToAll(openHTTP bool) bool {
	if a := b.access.Load(); !a.anonymous || len(a.byName) == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return openHTTP || slices.ContainsFunc(b.listeners, func(l *listener) bool {
		return !l.private && !(l.secure() && b.config.RequireCertificate)
	})
}

// listenError returns the error of opening a listener, with its usual cause and
// remedy.
func listenError(key, address string, err error) error {
	cause := err
	var op *net.OpError
	if errors.As(err, &op) {
		cause = op.Err
	}
	var hint string
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		cause = syscall.EADDRINUSE
		hint = "; another broker (mosquitto?) runs there: stop it or choose another port"
	case key == "broker.listen_unix":
		if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOENT) {
			hint = "; its folder must exist and be writable for the user that the hub runs as"
		}
	case errors.Is(err, syscall.EACCES):
		cause = syscall.EACCES
		hint = "; ports below 1024 are reserved for root: choose another one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		cause = syscall.EADDRNOTAVAIL
		hint = "; this machine has no such address (yet): write the port alone, as in \":1883\", to listen on all of them"
	}
	return fmt.Errorf("cannot listen on %s %s: %w%s", key, address, cause, hint)
}

// Listeners returns the open listeners, besides the control socket, with the ports they
// are bound to.
func (b *Broker) Listeners() []Listener {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Listener
	for _, l := range b.listeners {
		if l.scheme == control {
			continue
		}
		all = append(all, Listener{Scheme: l.scheme, Addr: l.Addr()})
	}
	return all
}

// anonymousAt reports whether a listener admits clients without a user.
func (b *Broker) anonymousAt(scheme string) bool {
	if scheme == forwardedHTTP {
		return false
	}
	if scheme == local || scheme == loopbackHTTP || b.access.Load().anonymous {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.listeners, func(l *listener) bool { return l.scheme == scheme && l.private })
}

// accept accepts the connections of a listener. After a temporary error, such as too
// many open files, it continues after a moment.
func (b *Broker) accept(l *listener) {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if b.logLimit.allow(l.scheme, err.Error(), time.Now()) {
				b.log.Warn("cannot accept a connection", "listener", l.scheme, "error", err)
			}
			time.Sleep(100 * time.Millisecond)
		default:
			b.serve(l.scheme, c)
		}
	}
}

// Serve serves an existing connection, such as one end of a net.Pipe, and returns at
// once. Without a user it is an admin.
func (b *Broker) Serve(c net.Conn) { b.serve(local, c) }

// ServeAs is Serve for a part of the program that acts as a user, with the rights of
// that user only; user "" is an admin.
func (b *Broker) ServeAs(c net.Conn, user string) {
	if user != "" {
		c = &ownConn{c, user}
	}
	b.serve(local, c)
}

// ownConn is a connection of the program itself, as a user.
type ownConn struct {
	net.Conn
	user string
}

// Certificate returns the user, so that the engine treats it as authenticated.
func (v *ownConn) Certificate() (name, use string) { return v.user, "" }

// serve passes a connection to the engine.
func (b *Broker) serve(scheme string, c net.Conn) { b.engine.Serve(c, scheme) }

// closeListeners closes the listeners and waits for their loops.
func (b *Broker) closeListeners() {
	b.mu.Lock()
	b.closed = true
	for _, l := range b.listeners {
		_ = l.Close()
	}
	b.mu.Unlock()
	b.accepting.Wait()
}
