package engine

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// reader reads from a connection. While the client says nothing it holds no
// buffer, where the connection lets it wait without one; elsewhere a small one.
type reader struct {
	conn  net.Conn
	plain syscall.RawConn // nil: the connection is more than a file descriptor
	try   func(fd uintptr) bool
	limit int // bytes of a packet

	part  []byte  // the beginning of a frame
	need  int     // bytes of that frame, as far as is known
	taken *[]byte // from readBuffers
	n     int
	err   error
	first [64]byte
}

const readAtATime = 32 << 10

var readBuffers = sync.Pool{New: func() any { b := make([]byte, readAtATime); return &b }}

func newReader(conn net.Conn, limit int) reader {
	r := reader{conn: conn, limit: limit}
	if c, ok := conn.(syscall.Conn); ok {
		r.plain, _ = c.SyscallConn()
	}
	return r
}

// read waits for more and returns everything that is not handled yet. It is
// valid until keep.
func (r *reader) read() ([]byte, error) {
	if r.need > readAtATime {
		return r.readLarge()
	}
	b, err := r.wait()
	if err != nil {
		r.release()
		return nil, err
	}
	return b, nil
}

// wait waits for something to read, and returns it behind part.
func (r *reader) wait() ([]byte, error) {
	if r.plain == nil {
		return r.waitWithBuffer()
	}
	if r.try == nil {
		r.try = r.attempt
	}
	r.n, r.err = 0, nil
	if err := r.plain.Read(r.try); err != nil {
		return nil, err
	}
	if r.err != nil {
		return nil, r.err
	}
	r.part = nil
	return (*r.taken)[:r.n], nil
}

// waitWithBuffer waits with a buffer that is small while no frame has begun.
func (r *reader) waitWithBuffer() ([]byte, error) {
	b := r.first[:]
	have := 0
	if len(r.part) > 0 {
		r.taken = readBuffers.Get().(*[]byte)
		b = *r.taken
		have = copy(b, r.part)
	}
	n, err := r.conn.Read(b[have:])
	if n == 0 && err != nil {
		return nil, err
	}
	r.part = nil
	return b[:have+n], nil
}

// attempt reads without waiting; false: there is nothing yet.
func (r *reader) attempt(fd uintptr) bool {
	buffer := readBuffers.Get().(*[]byte)
	have := copy(*buffer, r.part)
	for {
		n, err := syscall.Read(int(fd), (*buffer)[have:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			readBuffers.Put(buffer)
			return false
		case err != nil:
			r.err = err
		case n == 0:
			r.err = io.EOF
		}
		r.taken, r.n = buffer, have+max(n, 0)
		return true
	}
}

// readLarge reads on a frame that is larger than a buffer. Its memory grows as
// its bytes come, not as they are announced.
func (r *reader) readLarge() ([]byte, error) {
	if len(r.part) == cap(r.part) {
		grown := make([]byte, len(r.part), min(r.need, max(2*len(r.part), 2*readAtATime)))
		copy(grown, r.part)
		r.part = grown
	}
	n, err := r.conn.Read(r.part[len(r.part):cap(r.part)])
	r.part = r.part[:len(r.part)+n]
	if n == 0 && err != nil {
		return nil, err
	}
	b := r.part
	return b, nil
}

// keep ends the use of what read returned, but for the rest, which is the
// beginning of a frame of need bytes.
func (r *reader) keep(rest []byte, need int) {
	switch {
	case len(rest) == 0:
		r.part = nil
	case r.need <= readAtATime:
		r.part = append([]byte(nil), rest...)
	}
	r.need = need
	r.release()
}

func (r *reader) release() {
	if r.taken != nil {
		readBuffers.Put(r.taken)
		r.taken = nil
	}
}
