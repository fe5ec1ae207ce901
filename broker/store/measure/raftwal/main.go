// Command raftwal measures github.com/hashicorp/raft-wal, which syncs each
// commit and cannot be told otherwise.
package main

import (
	"os"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/jmbarzee/dominion/broker/store/measure"
)

type log struct {
	l          *wal.WAL
	next, mark uint64
}

func (l *log) Append(e []byte, _ bool) error {
	if err := l.l.StoreLog(&raft.Log{Index: l.next, Data: e}); err != nil {
		return err
	}
	l.next++
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
		var e raft.Log
		if err = l.l.GetLog(i, &e); err == nil {
			f(e.Data)
		}
	}
	return err
}
func (l *log) Mark() error  { l.mark = l.next; return nil }
func (l *log) Cut() error   { return l.l.DeleteRange(1, l.mark-1) }
func (l *log) Close() error { return l.l.Close() }

func main() {
	measure.Run("raft-wal", func(dir string) (measure.Engine, error) {
		_ = os.MkdirAll(dir, 0o755)
		w, err := wal.Open(dir)
		if err != nil {
			return nil, err
		}
		return measure.OpenLogged(&log{l: w})
	})
}
