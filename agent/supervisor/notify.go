package supervisor

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxSocketPath is what the kernel takes, unix(7).
const maxSocketPath = 107

// notifyPath is the same for each life of a service, so that one that lives on
// while the agent is away finds the next agent's socket.
func (s *Supervisor) notifyPath(service string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(service))
	return filepath.Join(s.notifyDir(), fmt.Sprintf("%x.sock", h.Sum64()))
}

// notifySocket hears what a service says by sd_notify(3).
// However much that is, one event at most waits for the loop.
type notifySocket struct {
	conn    *net.UnixConn
	reading sync.WaitGroup

	mu     sync.Mutex
	said   notified // and not taken yet
	posted bool
}

// heard tells that a notifySocket has something to take.
type heard struct{}

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
	if err == nil && own.credential != nil {
		err = os.Lchown(path, int(own.credential.Uid), int(own.credential.Gid))
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
			n.hear(parseNotify(string(buf[:size])), post)
		}
	})
	return n, nil
}

func (n *notifySocket) hear(ev notified, post func(event)) {
	if ev == (notified{}) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said.ready = n.said.ready || ev.ready
	if ev.status != "" {
		n.said.status = ev.status
	}
	if !n.posted {
		n.posted = true
		post(heard{})
	}
}

// take returns what was said since the last call.
func (n *notifySocket) take() notified {
	if n == nil {
		return notified{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ev := n.said
	n.said, n.posted = notified{}, false
	return ev
}

func (n *notifySocket) close() {
	if n != nil {
		n.conn.Close()
		n.reading.Wait()
	}
}

// maxStatus is how much of a STATUS= is shown.
const maxStatus = 200

// parseNotify reads the lines of sd_notify that mean something here.
func parseNotify(message string) (ev notified) {
	for line := range strings.Lines(message) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case key == "READY" && value == "1":
			ev.ready = true
		case key == "STATUS":
			ev.status = printable(value)
		}
	}
	return ev
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
