package broker

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"
)

// control is the listener name of the control socket. Whoever can open it is an admin.
const control = "control"

// controlGroup is the group whose members may open the control socket.
const controlGroup = "dominion"

// ListenControl opens the control socket: a Unix socket whose clients are admins and
// may send private requests. An error names its path.
func (b *Broker) ListenControl(path string) error {
	l, err := ListenForAdmins(path)
	if err != nil {
		return fmt.Errorf("cannot open the control socket %s: %w; private requests need mqtts and an admin's password until then", path, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	one := &listener{scheme: control, Listener: l, private: true}
	b.listeners = append(b.listeners, one)
	b.accepting.Go(func() { b.accept(one) })
	return nil
}

// ListenForAdmins opens a Unix socket for whoever may open the control socket.
func ListenForAdmins(path string) (net.Listener, error) {
	l, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	shareControlSocket(path)
	return l, nil
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
