package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// guardCommand is the first argument of a program that is started as a guard.
const guardCommand = "guard"

// guards are processes of this very program.
type guards struct{ readers sync.WaitGroup }

// newGuards returns the Guards of real processes. The program has to begin with
// a call of RunGuard.
func newGuards() Guards { return new(guards) }

func (g *guards) Now() time.Duration { return bootTime() }

func (g *guards) Close() { g.readers.Wait() }

// bootTime is the time since boot, with that of suspension.
func bootTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("supervisor: a kernel without CLOCK_BOOTTIME (Linux 2.6.39): " + err.Error())
	}
	return time.Duration(t.Nano())
}

// helloTimeout is how long a guard may take to send its first message.
const helloTimeout = 5 * time.Second

// guardAddress is where a guard listens: a name in the abstract namespace, which
// needs no disk. The kernel authenticates who connects (SO_PEERCRED).
func guardAddress(token string) unix.Sockaddr {
	return &unix.SockaddrUnix{Name: "@dominion-guard-" + token}
}

// Start starts this program as a guard, in a session of its own, and waits for its
// first message.
func (g *guards) Start(t Term, service, token string, lost func()) (Guard, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pair[1])
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	defer null.Close()
	// Nothing of a service's environment: it would be taken for a part of it.
	// The link works also when the program's file was replaced.
	_, err = syscall.ForkExec("/proc/self/exe", []string{"domain", guardCommand, service, token, nanoseconds(t.Until), nanoseconds(t.Stop)}, &syscall.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=1", "GOGC=25", "GOTRACEBACK=none"},
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(pair[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	l, _, err := g.connect(pair[0], lost)
	return l, err
}

// Find connects to the guard of a life that another run of the agent started.
func (g *guards) Find(token string, lost func()) (Guard, Term, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, Term{}, err
	}
	if err := unix.Connect(fd, guardAddress(token)); err != nil {
		unix.Close(fd)
		return nil, Term{}, err
	}
	if !trusted(fd) {
		unix.Close(fd)
		return nil, Term{}, errors.New("another user's process answers in its place")
	}
	l, t, err := g.connect(fd, lost)
	if err != nil {
		return nil, Term{}, err
	}
	return l, t, nil
}

// trusted reports whether the peer runs as the agent's user or as root.
func trusted(fd int) bool {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && (int(peer.Uid) == os.Geteuid() || peer.Uid == 0)
}

// guardConn is the agent's end of a connection to a guard.
type guardConn struct {
	file   *os.File
	closed atomic.Bool
}

// connect waits for the guard's first message, and calls lost when its connection
// ends.
func (g *guards) connect(fd int, lost func()) (*guardConn, Term, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, Term{}, err
	}
	l := &guardConn{file: os.NewFile(uintptr(fd), "guard")}
	b := make([]byte, 256)
	_ = l.file.SetReadDeadline(time.Now().Add(helloTimeout))
	n, err := l.file.Read(b)
	words := strings.Fields(string(b[:max(n, 0)]))
	var t Term
	if err == nil && (len(words) != 3 || words[0] != "guard" || !parseDurations(words[1:], &t.Until, &t.Stop)) {
		err = fmt.Errorf("it says %q", b[:n])
	}
	if err != nil {
		l.file.Close()
		return nil, Term{}, fmt.Errorf("it does not answer: %w", err)
	}
	_ = l.file.SetReadDeadline(time.Time{})
	g.readers.Go(func() {
		for {
			if n, err := l.file.Read(b); n <= 0 || err != nil {
				break
			}
		}
		if !l.closed.Load() {
			lost()
		}
	})
	return l, t, nil
}

func nanoseconds(d time.Duration) string { return strconv.FormatInt(int64(d), 10) }

// parseDurations reads durations in nanoseconds.
func parseDurations(words []string, to ...*time.Duration) bool {
	if len(words) != len(to) {
		return false
	}
	for i, w := range words {
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			return false
		}
		*to[i] = time.Duration(n)
	}
	return true
}

// send sends a message. It does not wait long: a guard that hangs must not delay
// the agent.
func (l *guardConn) send(words ...string) {
	_ = l.file.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	_, _ = l.file.WriteString(strings.Join(words, " "))
}

func (l *guardConn) Lease(t Term) { l.send("lease", nanoseconds(t.Until), nanoseconds(t.Stop)) }
func (l *guardConn) Life(g Group) {
	l.send("life", strconv.Itoa(g.PID), strconv.FormatUint(g.Started, 10), g.Cgroup)
}
func (l *guardConn) Ends(kill time.Duration) { l.send("ends", nanoseconds(kill)) }
func (l *guardConn) Void()                   { l.send("void") }

func (l *guardConn) Close() {
	l.closed.Store(true)
	l.file.Close()
}
