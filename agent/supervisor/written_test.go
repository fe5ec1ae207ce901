package supervisor

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/topics"
)

// writes counts the files that are written in directories, as the kernel sees it.
type writes struct {
	t  *testing.T
	fd int
	n  int
}

func watchWrites(t *testing.T, dirs ...string) *writes {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	for _, dir := range dirs {
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CLOSE_WRITE); err != nil {
			t.Fatal(err)
		}
	}
	return &writes{t: t, fd: fd}
}

// count returns how many files were written so far.
func (w *writes) count() int {
	w.t.Helper()
	var buf [64 << 10]byte
	for {
		n, err := unix.Read(w.fd, buf[:])
		if errors.Is(err, unix.EAGAIN) {
			return w.n
		}
		if err != nil {
			w.t.Fatal(err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			if binary.NativeEndian.Uint32(b[4:])&unix.IN_Q_OVERFLOW != 0 {
				w.t.Fatal("more files were written than the kernel counts")
			}
			w.n++
			b = b[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(b[12:]):]
		}
	}
}

// One file of a page, and what the file system writes for it.
const writeCost = 5 * 4096

// Whatever a service does for three hours, or is made to do: what the agent writes
// for it is bounded, in files and in its log.
func TestHoursOfServicesThatMakeTheAgentWrite(t *testing.T) {
	const (
		most    = recordsDaily/10 + recordsDaily/8
		mostLog = 500_000
	)
	always := func() topics.Spec {
		s := spec("r1")
		s.Restart = topics.RestartPolicy{Policy: topics.RestartAlways}
		return s
	}
	end := func(h *host, a *actor, code int) {
		if pid := h.get("web").PID; pid != 0 {
			a.end(pid, Exit{Code: code, Known: true})
		}
	}
	notify := func(h *host, ev event) {
		h.s.Handle(Event{"web", h.s.services["web"].Run.Token, ev}, time.Now())
	}
	byTopic := func() topics.Spec {
		s := always()
		s.Health = &topics.HealthCheck{MQTT: "health", Payload: "online"}
		return s
	}
	for _, c := range []struct {
		name  string
		spec  topics.Spec
		every time.Duration
		do    func(h *host, a *actor, round int)
	}{
		{"it crashes at once", always(), time.Second, func(h *host, a *actor, _ int) { end(h, a, 1) }},
		{"it ends at once, without an error", always(), time.Second, func(h *host, a *actor, _ int) { end(h, a, 0) }},
		{"it crashes when all is forgiven", always(), stableTime + 2*time.Second, func(h *host, a *actor, _ int) { end(h, a, 1) }},
		{"it says something else each second", always(), time.Second, func(h *host, _ *actor, _ int) { notify(h, notified{status: time.Now().String(), reloading: true}) }},
		{"its topic flaps", byTopic(), time.Second, func(h *host, _ *actor, round int) {
			h.s.TopicSubscribed("health", true, "", time.Now())
			h.s.TopicMessage("health", []byte([]string{"online", "offline"}[round%2]), false, time.Now(), time.Now())
		}},
		{"it is started and stopped", always(), 10 * time.Second, func(h *host, _ *actor, round int) {
			specs := one("web", always())
			if round%2 == 1 {
				specs = nil
			}
			h.s.Apply(specs, time.Now())
		}},
		{"it is restarted", always(), 10 * time.Second, func(h *host, _ *actor, _ int) {
			_ = h.s.Restart("web", time.Now())
		}},
		{"something else has its port each time", always(), 10 * time.Second, func(h *host, _ *actor, _ int) {
			given := maps.Clone(h.s.ports.assigned)
			h.s.ports.check = func(port int) error {
				if port == given["web"] {
					return errors.New("something listens there")
				}
				return nil
			}
			_ = h.s.Restart("web", time.Now())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, h *host, a *actor) {
				w := watchWrites(t, h.dir+"/data", h.dir+"/data/instances")
				h.apply(one("web", c.spec))
				logged, lives := 0, len(a.starts)
				for began, round := time.Now(), 0; time.Since(began) < 3*time.Hour; round++ {
					h.pass(c.every)
					c.do(h, a, round)
					h.pass(0)
					w.count()
					logged += h.log.Len()
					h.log.Reset()
					h.reports = nil
				}
				files := w.count()
				t.Logf("%d lives, %d files, %d kB of them, %d kB of log", len(a.starts)-lives, files, files*writeCost/1000, logged/1000)
				if files*writeCost > most || logged > mostLog {
					t.Errorf("%d files, %d bytes of log in three hours", files, logged)
				}
				h.pass(time.Minute)
				if v := h.s.services["web"]; v != nil && v.State.Alive() {
					b, err := os.ReadFile(h.s.recordFile("web"))
					var r record
					if err == nil {
						err = json.Unmarshal(bytes.TrimSpace(b), &r)
					}
					if err != nil || r.Instance != v.Run.Token {
						t.Errorf("the record is not of the life that is there: %v", err)
					}
				}
			})
		})
	}
}
