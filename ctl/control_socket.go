package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// controlScheme begins the address of a control socket: unix:PATH.
const controlScheme = "unix:"

// statusTimeout bounds the wait for the retained status of the hub.
const statusTimeout = 2 * time.Second

// connectFor connects to the hub for a verb. A private verb needs an encrypted
// connection or, on the hub's machine, its control socket.
func (a *app) connectFor(ctx context.Context, verb string) (*session, error) {
	if !topics.IsPrivate(verb) {
		return a.connect(ctx)
	}
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	if locate.Encrypted(t.url) || strings.HasPrefix(t.url, controlScheme) {
		return a.connect(ctx)
	}
	var denied error
	if !t.named {
		for _, path := range a.controlPaths() {
			s, err := a.open(ctx, controlScheme+path, t, t.prefix)
			if err == nil {
				return s, nil
			}
			if errors.Is(err, fs.ErrPermission) {
				denied = err
			}
		}
	}
	if denied != nil { // the hub is on this machine: no other one is looked for
		if s, err := a.open(ctx, t.url, t, t.prefix); err == nil {
			return a.controlOf(ctx, s, denied)
		}
		return nil, socketDenied(denied)
	}
	s, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	return a.controlOf(ctx, s, nil)
}

// controlOf returns a connection to the control socket that the hub of a connection names, where that is
// on this machine, and ends the other one; else that one. denied is why a socket could not be used
// before.
func (a *app) controlOf(ctx context.Context, s *session, denied error) (*session, error) {
	if isLoopback(s.where) {
		if path := s.controlSocket(ctx); path != "" {
			control, err := a.open(ctx, controlScheme+path, target{found: true}, s.tree.Prefix())
			if err == nil {
				s.close()
				return control, nil
			}
			denied = err
		}
	}
	if denied != nil {
		s.close()
		return nil, socketDenied(denied)
	}
	return s, nil // the hub refuses, and says what to do
}

// socketDenied is the error that this user may not open the control socket.
func socketDenied(err error) error {
	return fail(ExitFailed, "use sudo, or be a member of the group dominion", "%v", err)
}

// controlPaths returns where the control socket of a hub on this machine may be.
func (a *app) controlPaths() []string {
	if a.env.control != nil {
		return a.env.control
	}
	all := []string{"/run/dominion/control", filepath.Join(config.DefaultDataDir, "control")}
	if state := a.env.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		all = append(all, filepath.Join(state, "dominion", "control"))
	} else if home := a.env.Getenv("HOME"); filepath.IsAbs(home) {
		all = append(all, filepath.Join(home, ".local", "state", "dominion", "control"))
	}
	return all
}

// controlSocket returns the control socket that the hub names in its status, if it may
// be trusted; "": there is none.
func (s *session) controlSocket(ctx context.Context) string {
	status, err := s.hubStatus(ctx)
	if err != nil || !trustedSocket(status.Control) {
		return ""
	}
	return status.Control
}

// hubStatus returns what the hub has retained of itself.
func (s *session) hubStatus(ctx context.Context) (topics.Hub, error) {
	topic := s.tree.Hub(topics.HubStatus)
	waiting, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if err := s.subscribe(waiting, topic); err != nil {
		return topics.Hub{}, err
	}
	for {
		m, err := s.receive(waiting)
		if err != nil {
			return topics.Hub{}, err
		}
		if m.Topic == topic {
			return topics.DecodeForDisplay[topics.Hub](m.Topic, m.Payload)
		}
	}
}

// trustedSocket reports whether a path is a socket of root, of this user or of the
// hub's user. Another program could have named a socket of its own, to be asked instead
// of the hub.
func trustedSocket(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return errors.Is(err, fs.ErrPermission) // the attempt to open it says so
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode().Type() == fs.ModeSocket && trustedUser(owner.Uid)
}

// trustedUser reports whether a user of this machine may be that of the hub: root, this
// one, or the user dominion.
func trustedUser(uid uint32) bool {
	if uid == 0 || int(uid) == os.Getuid() {
		return true
	}
	hub, err := user.Lookup("dominion")
	return err == nil && hub.Uid == strconv.Itoa(int(uid))
}

// errUntrustedSocket means that a program of another user listens at a control socket.
var errUntrustedSocket = errors.New("another user than root, dominion and this one listens there")

// isLoopback reports whether an address of a broker is on this machine.
func isLoopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// dialControl has a connection go to a control socket instead of its URL. found reports
// that a broker has named it, so that it is checked who listens there.
func dialControl(o *client.Options, path string, found bool) {
	o.URL, o.Name = "mqtt://localhost", "the control socket "+path
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err != nil || !found {
			return c, err
		}
		if err := checkListener(c); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot use the control socket %s: %w", path, err), c.Close())
		}
		return c, nil
	}
}
