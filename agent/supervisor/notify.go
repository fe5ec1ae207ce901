package supervisor

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxSocketPath is the longest path of a socket in bytes (unix(7)).
const maxSocketPath = 107

// notifyPath returns the path of NOTIFY_SOCKET. It is the same for each life of a
// service, so that one that runs on while no agent runs finds the next agent's
// socket.
func (s *Supervisor) notifyPath(service string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(service))
	return filepath.Join(s.notifyDir(), fmt.Sprintf("%x.sock", h.Sum64()))
}

// notifySocket receives the notifications of a service by sd_notify(3). However many
// there are, one event at most is queued for the loop.
type notifySocket struct {
	conn    *net.UnixConn
	reading sync.WaitGroup

	mu sync.Mutex
	// pending is what was received and not taken yet.
	pending notified
	posted  bool
}

// notifyPending is the event that a notifySocket has something to take.
type notifyPending struct{}

// listenNotify opens the socket of a service at path, which only its owner may write
// to, and posts notifyPending when there is something to take.
func listenNotify(path string, own owner, post func(event)) (*notifySocket, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the path %s is longer than %d bytes: use a shorter data_dir", path, maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a life or an agent before
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	err = os.Chmod(path, 0o600)
	if err == nil && os.Getuid() == 0 {
		err = os.Lchown(path, own.uid, own.gid)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	n := &notifySocket{conn: conn}
	n.reading.Go(func() {
		buf := make([]byte, 4096)
		for {
			size, _, err := conn.ReadFromUnix(buf)
			if err != nil {
				return // closed
			}
			n.receive(parseNotify(string(buf[:size])), post)
		}
	})
	return n, nil
}

func (n *notifySocket) receive(ev notified, post func(event)) {
	if ev == (notified{}) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending.add(ev)
	if !n.posted {
		n.posted = true
		post(notifyPending{})
	}
}

// take returns what was received since the last call.
func (n *notifySocket) take() notified {
	if n == nil {
		return notified{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ev := n.pending
	n.pending, n.posted = notified{}, false
	return ev
}

// Close ends the socket; its file stays for the next life.
func (n *notifySocket) Close() error {
	if n == nil {
		return nil
	}
	err := n.conn.Close()
	n.reading.Wait()
	return err
}

// maxStatus is how much of a STATUS= is shown.
const maxStatus = 200

// maxExtension is how much time a service can ask for at once.
const maxExtension = time.Hour

// parseNotify reads the lines of sd_notify(3) that mean something here.
func parseNotify(message string) (ev notified) {
	for line := range strings.Lines(message) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case key == "READY" && value == "1":
			ev.add(notified{ready: true})
		case key == "RELOADING" && value == "1":
			ev.reloading = true
		case key == "STOPPING" && value == "1":
			ev.stopping = true
		case key == "WATCHDOG" && value == "1":
			ev.alive = true
		case key == "WATCHDOG" && value == "trigger":
			ev.trigger = true
		case key == "EXTEND_TIMEOUT_USEC":
			if µs, err := strconv.ParseUint(value, 10, 63); err == nil {
				ev.extend = min(maxExtension, time.Duration(min(µs, uint64(maxExtension)))*time.Microsecond)
			}
		case key == "STATUS":
			ev.status = printable(value)
		}
	}
	return ev
}

// add adds a later notification.
func (n *notified) add(ev notified) {
	n.ready = n.ready || ev.ready
	n.reloading = ev.reloading || n.reloading && !ev.ready // READY=1 ends it
	n.stopping = n.stopping || ev.stopping
	n.alive = n.alive || ev.alive
	n.trigger = n.trigger || ev.trigger
	if ev.extend > 0 {
		n.extend = ev.extend
	}
	if ev.status != "" {
		n.status = ev.status
	}
}

func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > maxStatus {
		s = string(r[:maxStatus])
	}
	return s
}
