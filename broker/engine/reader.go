package engine

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// reader reads from a connection. While the client sends nothing it holds no buffer,
// if the connection is a plain file descriptor, and a small one otherwise.
type reader struct {
	conn net.Conn
	// rawConn is nil if the connection is more than a file descriptor.
	rawConn syscall.RawConn
	tryRead func(fd uintptr) bool
	// limit is the maximum packet size in bytes.
	limit int

	// partial is the beginning of an incomplete frame.
	partial []byte
	// need is the size of that frame, as far as it is known.
	need int
	// buffer is from readBuffers.
	buffer *[]byte
	n      int
	err    error
	first  [64]byte
}

// readBufferSize is the size of a read buffer in bytes.
const readBufferSize = 32 << 10

// readBuffers pools buffers of readBufferSize.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, readBufferSize); return &b }}

// newReader returns a reader of packets up to limit bytes.
func newReader(conn net.Conn, limit int) reader {
	r := reader{conn: conn, limit: limit}
	if c, ok := conn.(syscall.Conn); ok {
		r.rawConn, _ = c.SyscallConn()
	}
	return r
}

// read waits for data and returns everything that is not handled yet. The result is
// valid until keepRest.
func (r *reader) read() ([]byte, error) {
	if r.need > readBufferSize {
		return r.readLarge()
	}
	b, err := r.waitReadable()
	if err != nil {
		r.release()
		return nil, err
	}
	return b, nil
}

// waitReadable waits for data, and returns it appended to partial.
func (r *reader) waitReadable() ([]byte, error) {
	if r.rawConn == nil {
		return r.waitWithBuffer()
	}
	if r.tryRead == nil {
		r.tryRead = r.readNonblocking
	}
	r.n, r.err = 0, nil
	if err := r.rawConn.Read(r.tryRead); err != nil {
		return nil, err
	}
	if r.err != nil {
		return nil, r.err
	}
	r.partial = nil
	return (*r.buffer)[:r.n], nil
}

// waitWithBuffer reads into a buffer that is small while no frame has begun.
func (r *reader) waitWithBuffer() ([]byte, error) {
	b := r.first[:]
	have := 0
	if len(r.partial) > 0 {
		r.buffer = readBuffers.Get().(*[]byte)
		b = *r.buffer
		have = copy(b, r.partial)
	}
	n, err := r.conn.Read(b[have:])
	if n == 0 && err != nil {
		return nil, err
	}
	r.partial = nil
	return b[:have+n], nil
}

// readNonblocking reads without waiting, and reports whether there was something:
// data, an error or the end.
func (r *reader) readNonblocking(fd uintptr) bool {
	buffer := readBuffers.Get().(*[]byte)
	have := copy(*buffer, r.partial)
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
		r.buffer, r.n = buffer, have+max(n, 0)
		return true
	}
}

// readLarge continues a frame that is larger than a buffer. Its memory grows with the
// bytes that arrive, not with the size that the frame announces.
func (r *reader) readLarge() ([]byte, error) {
	if len(r.partial) == cap(r.partial) {
		grown := make([]byte, len(r.partial), min(r.need, max(2*len(r.partial), 2*readBufferSize)))
		copy(grown, r.partial)
		r.partial = grown
	}
	n, err := r.conn.Read(r.partial[len(r.partial):cap(r.partial)])
	r.partial = r.partial[:len(r.partial)+n]
	if n == 0 && err != nil {
		return nil, err
	}
	b := r.partial
	return b, nil
}

// keepRest ends the use of what read returned, except for rest, the beginning of a
// frame of need bytes.
func (r *reader) keepRest(rest []byte, need int) {
	if len(rest) == 0 {
		r.partial = nil
	} else if r.need <= readBufferSize {
		r.partial = append([]byte(nil), rest...)
	}
	r.need = need
	r.release()
}

// release returns the buffer to the pool.
func (r *reader) release() {
	if r.buffer != nil {
		readBuffers.Put(r.buffer)
		r.buffer = nil
	}
}
