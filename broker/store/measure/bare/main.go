// Command bare is the yardstick: a file, a length before each entry, nothing else.
package main

import (
	"encoding/binary"
	"os"
	"path/filepath"

	"github.com/jmbarzee/dominion/broker/store/measure"
)

type log struct {
	dir string
	f   *os.File
}

func (l *log) Append(e []byte, sync bool) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(e)))
	if _, err := l.f.Write(append(b, e...)); err != nil || !sync {
		return err
	}
	return l.f.Sync()
}

func (l *log) Each(f func([]byte)) error {
	b, err := os.ReadFile(filepath.Join(l.dir, "log"))
	for len(b) > 4 {
		n := binary.BigEndian.Uint32(b)
		f(b[4 : 4+n])
		b = b[4+n:]
	}
	return err
}

func (l *log) Mark() error {
	f, err := os.Create(filepath.Join(l.dir, "next"))
	l.f = f
	return err
}

func (l *log) Cut() error {
	return os.Rename(filepath.Join(l.dir, "next"), filepath.Join(l.dir, "log"))
}
func (l *log) Close() error { return l.f.Close() }

func main() {
	measure.Run("bare", func(dir string) (measure.Engine, error) {
		_ = os.MkdirAll(dir, 0o755)
		f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		return measure.OpenLogged(&log{dir, f})
	})
}
