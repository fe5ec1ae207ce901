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

// Listener is an address that the broker listens at.
type Listener struct {
	Scheme string   // mqtt, mqtts, ws, wss or unix
	Addr   net.Addr // as bound
}

// local names the connections given to Serve, as the schemes name those of the
// listeners.
const local = "local"

type listener struct {
	scheme string
	net.Listener
	private bool // nobody but this machine reaches it: loopback, or a Unix socket, which its mode guards
}

func (l *listener) secure() bool    { return l.scheme == "mqtts" || l.scheme == "wss" }
func (l *listener) webSocket() bool { return l.scheme == "ws" || l.scheme == "wss" }

// Listen opens the configured listeners: all of them, or none and an error that
// names the key.
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
		if err != nil {
			faults = append(faults, listenError(at.key, at.address, err))
			continue
		}
		all = append(all, l)
		if l.secure() {
			if err := b.secure(l); err != nil {
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
	b.warnOfClosedDoors(all)
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
		l = zoned{l, withZone(at, address)}
	}
	return &listener{scheme: scheme, Listener: l, private: ok && at.IP.IsLoopback()}, nil
}

// zoned is a listener whose address keeps its zone.
type zoned struct {
	net.Listener
	addr net.Addr
}

func (z zoned) Addr() net.Addr { return z.addr }

// withZone returns the address of a listener with the zone that it was configured
// with: the system does not return that of a link-local address.
func withZone(at *net.TCPAddr, configured string) *net.TCPAddr {
	host, _, err := net.SplitHostPort(configured)
	if _, zone, there := strings.Cut(host, "%"); err == nil && there && at.Zone == "" && at.IP.IsLinkLocalUnicast() {
		with := *at
		with.Zone = zone
		return &with
	}
	return at
}

// warnOfClosedDoors names the listeners at which nobody can log in, not even
// from this machine: what comes of opening the broker, and of nothing else.
func (b *Broker) warnOfClosedDoors(all []*listener) {
	if a := b.access.Load(); a.anonymous || len(a.byName) > 0 {
		return
	}
	for _, l := range all {
		if !l.private {
			b.log.Warn("nobody can connect here: write [[broker.users]], or allow_anonymous = true where you trust everybody", "listener", l.Addr().String())
		}
	}
}

// OpenToAll reports whether other machines reach a listener that takes clients
// without a user, which are admins, although there are users: their passwords and
// roles protect nothing then.
func (b *Broker) OpenToAll() bool {
	if a := b.access.Load(); !a.anonymous || len(a.byName) == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.listeners, func(l *listener) bool {
		return !l.private && !(l.secure() && b.config.RequireCertificate)
	})
}

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
			hint = "; its folder must be there, and writable for the user that the hub runs as"
		}
	case errors.Is(err, syscall.EACCES):
		cause = syscall.EACCES
		hint = "; ports below 1024 are for root: choose another one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		cause = syscall.EADDRNOTAVAIL
		hint = "; this machine has no such address (yet): write the port alone, as in \":1883\", to listen at all of them"
	}
	return fmt.Errorf("cannot listen on %s %s: %w%s", key, address, cause, hint)
}

// Listeners returns the open listeners with the ports they are bound to.
func (b *Broker) Listeners() []Listener {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Listener
	for _, l := range b.listeners {
		all = append(all, Listener{Scheme: l.scheme, Addr: l.Addr()})
	}
	return all
}

// anonymousAt tells whether a listener takes clients without a user.
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

// accept owns a listener. An error such as too many open files passes: it goes
// on after a moment.
func (b *Broker) accept(l *listener) {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if b.refusals.tell(l.scheme, err.Error(), time.Now()) {
				b.log.Warn("cannot take a connection", "listener", l.scheme, "error", err)
			}
			time.Sleep(100 * time.Millisecond)
		default:
			b.take(l.scheme, c)
		}
	}
}

// Serve takes a connection that is already there, such as one end of a
// net.Pipe, and returns at once. Without a user it may do everything.
func (b *Broker) Serve(c net.Conn) { b.take(local, c) }

// ServeAs is Serve for a part of our own program that acts as a user, with that
// user's rights alone; user "" may do everything.
func (b *Broker) ServeAs(c net.Conn, user string) {
	if user != "" {
		c = &vouched{c, user}
	}
	b.take(local, c)
}

// vouched is a connection of our own program, as a user.
type vouched struct {
	net.Conn
	user string
}

func (v *vouched) Certificate() string { return v.user }

func (b *Broker) take(scheme string, c net.Conn) { b.engine.Serve(c, scheme) }

func (b *Broker) closeListeners() {
	b.mu.Lock()
	for _, l := range b.listeners {
		_ = l.Close()
	}
	b.mu.Unlock()
	b.accepting.Wait()
}
