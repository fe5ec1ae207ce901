package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/agent"
	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/topics"
)

// wires is the network with the real broker, and a wire to each machine. With
// a seed that is odd the broker keeps what it knows over its end.
type wires struct {
	home       *home
	persistent bool

	mu           sync.Mutex
	broker       *broker.Broker // nil while the hub is down
	lastPayloads map[string]string
	runs         uint64
	lines        map[*machine][]*end
	in           map[*machine]bool // nothing gets in
	out          map[*machine]bool
}

func newWires(h *home) network {
	return &wires{
		home: h, persistent: h.seed%2 == 1, lastPayloads: make(map[string]string),
		lines: make(map[*machine][]*end), in: make(map[*machine]bool), out: make(map[*machine]bool),
	}
}

func (w *wires) open() (hub.Bus, bool) {
	var c broker.Config
	if w.persistent {
		c.DataDir, c.SyncDelay = w.home.cfg.DataDir, 100*time.Millisecond
	}
	b, err := broker.New(c, slog.New(slog.NewTextHandler(w.home.log, nil)))
	if err != nil {
		w.home.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broker, w.lastPayloads = b, make(map[string]string)
	w.runs++
	return b, true
}

func (w *wires) serve(u listener) {
	if err := w.broker.Subscribe("#", w.receive); err != nil {
		w.home.Fatal(err)
	}
	for _, f := range u.Filters() {
		if err := w.broker.Subscribe(f, u.Deliver); err != nil {
			w.home.Fatal(err)
		}
	}
	u.Connected()
}

func (w *wires) close(end func(), how ending) {
	w.mu.Lock()
	b := w.broker
	w.broker = nil
	for _, all := range w.lines {
		for _, l := range all {
			switch how {
			case killed:
				l.kill()
			case unplugged:
				l.cut(true, true)
			}
		}
	}
	w.mu.Unlock()
	end()
	if err := b.Stop(context.Background()); err != nil {
		w.home.Error(err)
	}
	if how == unplugged {
		w.tear()
	}
}

// tear takes away from the end of the broker's file what was not on the disk
// yet, as far as anybody can tell.
func (w *wires) tear() {
	files, _ := filepath.Glob(filepath.Join(w.home.dir, "kept", "broker", "*.log"))
	if len(files) == 0 {
		return
	}
	last := files[len(files)-1]
	if info, err := os.Stat(last); err == nil {
		_ = os.Truncate(last, info.Size()-int64(w.home.random(w.runs, "tear")%uint64(min(info.Size(), 2000)+1)))
	}
}

func (w *wires) stop() {}

func (w *wires) receive(m topics.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastPayloads[m.Topic] = string(m.Payload)
}

func (w *wires) last(topic string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lastPayloads[topic]
}

func (w *wires) publish(m topics.Message) {
	w.mu.Lock()
	b := w.broker
	w.mu.Unlock()
	if b != nil {
		b.Publish(m)
	}
}

func (w *wires) reach(m *machine, o *agent.Options) {
	o.Dial = func(ctx context.Context, _ string) (net.Conn, error) { return w.dial(ctx, m) }
}

func (w *wires) dial(ctx context.Context, m *machine) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.in[m] || w.out[m] {
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return nil, ctx.Err()
	}
	if w.broker == nil {
		return nil, fmt.Errorf("connection refused")
	}
	ours, theirs := connection()
	w.broker.Serve(theirs)
	w.lines[m] = append(w.lines[m], ours)
	return ours, nil
}

func (w *wires) cut(m *machine, in, out bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in[m], w.out[m] = w.in[m] || in, w.out[m] || out
	for _, l := range w.lines[m] {
		l.cut(in, out)
	}
}

func (w *wires) restore(m *machine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in[m], w.out[m] = false, false
}

func (w *wires) reset(m *machine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lines[m] {
		l.kill()
	}
	delete(w.lines, m)
}
