package broker

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/topics"
)

// control is the listener name of the control socket. Whoever can open it is an admin.
const control = "control"

// controlGroup is the group whose members may open the control socket.
const controlGroup = "dominion"

// PrivateHandler gets a private request. answer sends a message to the asking connection
// alone; it must not be called before the handler returns, which must not block.
type PrivateHandler func(m topics.Message, answer func(topics.Message))

// HandlePrivate sets what handles private requests. Until then they are dropped.
func (b *Broker) HandlePrivate(handler PrivateHandler) { b.private.Store(&handler) }

// ListenControl opens the control socket: a Unix socket whose clients are admins and
// may send private requests. An error names its path.
func (b *Broker) ListenControl(path string) error {
	l, err := listenUnix(path)
	if err != nil {
		return fmt.Errorf("cannot open the control socket %s: %w; private requests need mqtts and an admin's password until then", path, err)
	}
	shareControlSocket(path)
	b.mu.Lock()
	defer b.mu.Unlock()
	one := &listener{scheme: control, Listener: l, private: true}
	b.listeners = append(b.listeners, one)
	b.accepting.Go(func() { b.accept(one) })
	return nil
}

// isPrivate reports whether a topic is that of a private request.
func (b *Broker) isPrivate(topic string) bool {
	at, ours := b.tree.Parse(topic)
	return ours && at.Kind == topics.Request && (b.config.ControlOnly || topics.IsPrivate(at.Verb))
}

// receivePrivate passes a private request on.
func (b *Broker) receivePrivate(c engine.Client, m topics.Message, answer func(topics.Message)) {
	if c.Applicant {
		if handler := b.applicants.Load(); handler != nil {
			(*handler)(m, hostOf(c.Remote))
		}
		return
	}
	if handler := b.private.Load(); handler != nil {
		(*handler)(m, answer)
	}
}

// maySendPrivate reports whether a client may send private requests, as far as its
// connection goes: nobody can read them on the way, and somebody is known to send them.
// A client within the program is a bridge, which passes on what others publish.
func (b *Broker) maySendPrivate(c engine.Client) bool {
	switch c.Listener {
	case control:
		return true
	case "mqtts", "wss", "https", "unix":
		return c.User != ""
	}
	return false
}

// shareControlSocket gives the control socket to its group, where there is one and the
// process may.
func shareControlSocket(path string) {
	group, err := user.LookupGroup(controlGroup)
	if err != nil {
		return
	}
	if id, err := strconv.Atoi(group.Gid); err == nil {
		_ = os.Lchown(path, -1, id) // without it the owner alone opens the socket
	}
}
