// Command tidwall measures github.com/tidwall/wal.
package main

import (
	"github.com/tidwall/wal"

	"github.com/jmbarzee/dominion/broker/store/measure"
)

type log struct {
	l          *wal.Log
	next, mark uint64
}

func (l *log) Append(e []byte, sync bool) error {
	if err := l.l.Write(l.next, e); err != nil {
		return err
	}
	l.next++
	if sync {
		return l.l.Sync()
	}
	return nil
}

func (l *log) Each(f func([]byte)) error {
	first, err := l.l.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.l.LastIndex()
	l.next = last + 1
	for i := max(first, 1); i <= last && err == nil; i++ {
		var b []byte
		if b, err = l.l.Read(i); err == nil {
			f(b)
		}
	}
	return err
}
func (l *log) Mark() error  { l.mark = l.next; return nil }
func (l *log) Cut() error   { return l.l.TruncateFront(l.mark) }
func (l *log) Close() error { return l.l.Close() }

func main() {
	measure.Run("tidwall", func(dir string) (measure.Engine, error) {
		w, err := wal.Open(dir, &wal.Options{NoSync: true, NoCopy: true})
		if err != nil {
			return nil, err
		}
		return measure.OpenLogged(&log{l: w})
	})
}
