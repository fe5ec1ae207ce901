// Command wlog measures the write ahead log of Prometheus.
package main

import (
	"io"
	"log/slog"

	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/jmbarzee/dominion/broker/store/measure"
)

type log struct {
	w    *wlog.WL
	mark int
}

func (l *log) Append(e []byte, sync bool) error {
	if err := l.w.Log(e); err != nil || !sync {
		return err
	}
	return l.w.Sync()
}

func (l *log) Each(f func([]byte)) error {
	s, err := wlog.NewSegmentsReader(l.w.Dir())
	if err != nil {
		return err
	}
	defer s.Close()
	r := wlog.NewReader(s)
	for r.Next() {
		f(r.Record())
	}
	if r.Err() == io.EOF {
		return nil
	}
	return r.Err()
}

func (l *log) Mark() error {
	n, err := l.w.NextSegmentSync()
	l.mark = n
	return err
}
func (l *log) Cut() error   { return l.w.Truncate(l.mark) }
func (l *log) Close() error { return l.w.Close() }

func main() {
	measure.Run("wlog", func(dir string) (measure.Engine, error) {
		w, err := wlog.NewSize(slog.New(slog.DiscardHandler), nil, dir, 4<<20, "none")
		if err != nil {
			return nil, err
		}
		return measure.OpenLogged(&log{w: w})
	})
}
