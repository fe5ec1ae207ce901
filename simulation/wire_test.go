package simulation

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// stream is one direction of a connection, with a buffer as TCP has one:
// without, two ends that write at the same time would stop each other.
type stream struct {
	mu     sync.Mutex
	data   []byte
	closed bool
	cut    bool // what is written is lost, the end is never reported
	news   chan struct{}
}

func newStream() *stream { return &stream{news: make(chan struct{}, 1)} }

func (s *stream) change(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// end is one end of a connection.
type end struct {
	in, out *stream

	mu       sync.Mutex
	closed   chan struct{}
	deadline time.Time
	moved    chan struct{} // the deadline was changed
}

// connection returns the two ends of one.
func connection() (a, b *end) {
	ab, ba := newStream(), newStream()
	make1 := func(in, out *stream) *end {
		return &end{in: in, out: out, closed: make(chan struct{}), moved: make(chan struct{}, 1)}
	}
	return make1(ba, ab), make1(ab, ba)
}

func (e *end) Read(p []byte) (int, error) {
	for {
		e.in.mu.Lock()
		n := copy(p, e.in.data)
		e.in.data = e.in.data[n:]
		over := e.in.closed
		e.in.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case over:
			return 0, io.EOF
		}
		e.mu.Lock()
		at := e.deadline
		e.mu.Unlock()
		var late <-chan time.Time
		if !at.IsZero() {
			late = time.After(time.Until(at))
		}
		select {
		case <-e.in.news:
		case <-e.moved:
		case <-e.closed:
			return 0, net.ErrClosed
		case <-late:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (e *end) Write(p []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, net.ErrClosed
	default:
	}
	err := error(nil)
	e.out.change(func() {
		switch {
		case e.out.closed:
			err = io.ErrClosedPipe
		case !e.out.cut:
			e.out.data = append(e.out.data, p...)
		}
	})
	return len(p), err
}

func (e *end) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.closed:
		return nil
	default:
		close(e.closed)
	}
	e.out.change(func() { e.out.closed = e.out.closed || !e.out.cut })
	return nil
}

// cut drops everything from now on, in, out or both, without an error.
func (e *end) cut(in, out bool) {
	if in {
		e.in.change(func() { e.in.cut, e.in.data = true, nil })
	}
	if out {
		e.out.change(func() { e.out.cut, e.out.data = true, nil })
	}
}

// kill ends it for both ends, as the end of a process does.
func (e *end) kill() {
	for _, s := range []*stream{e.in, e.out} {
		s.change(func() { s.closed = true })
	}
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.mu.Lock()
	e.deadline = t
	e.mu.Unlock()
	select {
	case e.moved <- struct{}{}:
	default:
	}
	return nil
}

func (e *end) SetDeadline(t time.Time) error    { return e.SetReadDeadline(t) }
func (e *end) SetWriteDeadline(time.Time) error { return nil } // a write never waits
func (e *end) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)} }
func (e *end) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }
