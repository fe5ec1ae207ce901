package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// actor is a Runner without processes: it plays them.
type actor struct {
	alive    map[int]func(Exit)
	starts   []time.Time
	signals  []syscall.Signal
	stubborn bool   // SIGTERM is ignored
	boot     string // which one of the machine
	check    func(ctx context.Context) error
	onStart  func(Command)
}

func (a *actor) Start(c Command, onExit func(Exit)) (Group, error) {
	if a.onStart != nil {
		a.onStart(c)
	}
	a.starts = append(a.starts, time.Now())
	pid := 1000 + len(a.starts)
	a.alive[pid] = onExit
	return Group{PID: pid, Started: 1}, nil
}

func (a *actor) Signal(g Group, s syscall.Signal) {
	a.signals = append(a.signals, s)
	if s == syscall.SIGKILL || s == syscall.SIGTERM && !a.stubborn {
		a.end(g.PID, Exit{Signal: s, Known: true})
	}
}

func (a *actor) end(pid int, e Exit) {
	if onExit := a.alive[pid]; onExit != nil {
		delete(a.alive, pid)
		go onExit(e)
	}
}

func (a *actor) Adopt(Group, string, func(Exit)) bool       { return false }
func (a *actor) Lives(string) []Life                        { return nil }
func (a *actor) Check(ctx context.Context, _ Command) error { return a.check(ctx) }
func (a *actor) Boot() string                               { return "boot" + a.boot }
func (a *actor) Close()                                     {}
func (a *actor) since(began time.Time) (offsets []time.Duration) {
	for _, t := range a.starts {
		offsets = append(offsets, t.Sub(began))
	}
	return offsets
}

// play runs a host on virtual time.
func play(t *testing.T, test func(t *testing.T, h *host, a *actor), change ...func(*Options)) {
	synctest.Test(t, func(t *testing.T) {
		a := &actor{alive: make(map[int]func(Exit))}
		h := newHost(t, append(change, func(o *Options) { o.Runner = a })...)
		h.makefile("web", "true")
		test(t, h, a)
	})
}

// pass lets virtual time go by, as the agent's loop does.
func (h *host) pass(d time.Duration) {
	h.t.Helper()
	end := time.Now().Add(d)
	for {
		synctest.Wait()
		events, _ := h.events.Take()
		for _, e := range events {
			h.s.Handle(e, time.Now())
		}
		now := time.Now()
		at := h.s.Next()
		if !at.IsZero() && !at.After(now) {
			h.s.Expire(now)
			if h.s.Next().Equal(at) {
				h.t.Fatalf("at %v the same tick is due again", at)
			}
			continue
		}
		if len(events) > 0 {
			continue
		}
		if at.IsZero() || at.After(end) {
			at = end
		}
		if !now.Before(end) {
			return
		}
		select {
		case <-h.events.Ready():
		case <-time.After(at.Sub(now)):
		}
	}
}

func TestVirtualReadyAfterASecond(t *testing.T) {
	play(t, func(t *testing.T, h *host, _ *actor) {
		h.apply(one("web", spec("r1")))
		h.pass(readyAfter - time.Nanosecond)
		if got := h.get("web").State; got != topics.Starting {
			t.Errorf("%s just before", got)
		}
		h.pass(time.Nanosecond)
		if i := h.get("web"); i.State != topics.Running || i.Health != topics.Healthy || !i.Since.Equal(time.Now()) {
			t.Errorf("%+v", i)
		}
	})
}

func TestVirtualBackoff(t *testing.T) {
	play(t, func(t *testing.T, h *host, a *actor) {
		s := spec("r1")
		s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(time.Second), topics.Seconds(10*time.Second)
		began := time.Now()
		h.apply(one("web", s))
		for range 9 {
			a.end(h.get("web").PID, Exit{Code: 1, Known: true})
			h.pass(0)
			if got := h.get("web"); got.State != topics.Backoff || got.PID != 0 {
				t.Fatalf("%+v", got)
			}
			h.pass(11 * time.Second)
		}
		waits := a.since(began)
		for i, want := range []time.Duration{1, 2, 4, 8, 10, 10, 10, 10, 10} {
			want *= time.Second
			got := waits[i+1] - time.Duration(i)*11*time.Second
			if got < want*9/10 || got > want*11/10 {
				t.Errorf("wait %d is %v, want %v ± 10 %%", i, got, want)
			}
		}
		a.end(h.get("web").PID, Exit{Code: 1, Known: true}) // the tenth
		h.pass(4 * time.Minute)
		if got := h.get("web").State; got != topics.Failed {
			t.Fatalf("it is %s", got)
		}
		h.pass(time.Minute)
		if got := h.get("web").State; got != topics.Starting {
			t.Errorf("after 5 minutes it is %s", got)
		}
	})
}

func TestVirtualStopKills(t *testing.T) {
	play(t, func(t *testing.T, h *host, a *actor) {
		a.stubborn = true
		h.apply(one("web", spec("r1")))
		h.pass(time.Minute)
		h.s.StopAll(time.Now())
		h.pass(5*time.Second - 1)
		if h.s.Idle() || len(a.signals) != 2 {
			t.Fatalf("signals %v", a.signals)
		}
		h.pass(1)
		if !h.s.Idle() || a.signals[len(a.signals)-1] != syscall.SIGKILL {
			t.Errorf("signals %v", a.signals)
		}
		if got := h.get("web").State; got != topics.Stopped {
			t.Errorf("it is %s", got)
		}
		h.pass(stoppedListed)
		if i := h.s.Instances(); len(i) > 0 {
			t.Errorf("a minute later it is listed: %+v", i)
		}
		if at := h.s.Next(); !at.IsZero() {
			t.Errorf("a tick is due at %v with nothing to do", at)
		}
	})
}

func TestVirtualChecks(t *testing.T) {
	var dials []time.Time
	answer := errors.New("nobody")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		dials = append(dials, time.Now())
		if answer != nil {
			return nil, answer
		}
		c, _ := net.Pipe()
		return c, nil
	}
	play(t, func(t *testing.T, h *host, _ *actor) {
		s := spec("r1")
		s.Health = &topics.HealthCheck{TCP: true, Interval: topics.Seconds(5 * time.Second), Failures: 3}
		h.apply(one("web", s))
		h.pass(2 * time.Second)
		if n := len(dials); n < 6 || n > 9 {
			t.Errorf("%d checks in the first 2 s", n)
		}
		answer = nil
		h.pass(slowCheck)
		if got := h.get("web").State; got != topics.Running {
			t.Fatalf("it is %s", got)
		}
		dials = nil
		h.pass(time.Minute)
		if n := len(dials); n != 12 {
			t.Errorf("%d checks in a minute, want 12", n)
		}
		answer = errors.New("gone")
		h.pass(10 * time.Second)
		if got := h.get("web").Health; got != topics.Healthy {
			t.Errorf("after two failures it is %s", got)
		}
		h.pass(5 * time.Second)
		if i := h.get("web"); i.Health != topics.Unhealthy || i.Message != "3 checks in a row failed: gone" {
			t.Errorf("%+v", i)
		}
		h.pass(time.Hour)
		if i := h.get("web"); i.State != topics.Running || i.Restarts != 0 {
			t.Errorf("an unhealthy service was touched: %+v", i)
		}
		if n := h.reported(topics.ServiceUnhealthy, "web"); n != 1 {
			t.Errorf("reported %d times", n)
		}
	}, func(o *Options) { o.Dial = dial })
}

func TestVirtualCheckThatHangs(t *testing.T) {
	play(t, func(t *testing.T, h *host, a *actor) {
		running, worst := 0, 0
		a.check = func(ctx context.Context) error {
			running++
			worst = max(worst, running)
			<-ctx.Done()
			running--
			return ctx.Err()
		}
		h.write("services/web/service.toml", "[health]\ncommand = [\"true\"]\ninterval = \"1s\"\ntimeout = \"3s\"\nfailures = 2\n")
		s := spec("r1")
		s.StartTimeout = topics.Seconds(20 * time.Second)
		h.apply(one("web", s))
		h.pass(19 * time.Second)
		if i := h.get("web"); i.State != topics.Starting || i.Message != "not ready yet: no answer within 3 s (start_timeout is 20 s)" {
			t.Errorf("%+v", i)
		}
		h.pass(2 * time.Second)
		if i := h.get("web"); i.Restarts != 1 {
			t.Errorf("%+v", i)
		}
		if worst != 1 {
			t.Errorf("%d checks at once", worst)
		}
	})
}

func TestVirtualNewsOfAFormerLifeAreVoid(t *testing.T) {
	play(t, func(t *testing.T, h *host, a *actor) {
		h.apply(one("web", spec("r1")))
		h.pass(2 * time.Second)
		late := h.s.poster("web", h.s.services["web"].Run.Token)
		a.end(h.get("web").PID, Exit{Code: 1, Known: true})
		h.pass(2 * time.Second)
		pid := h.get("web").PID
		late(exited{message: "again"})
		late(checked{})
		h.pass(time.Second)
		if i := h.get("web"); i.PID != pid || i.Restarts != 1 || i.State != topics.Running {
			t.Errorf("%+v", i)
		}
	})
}

// An agent that is killed between the start and noting it leaves a trace.
func TestVirtualAStartIsNotedBefore(t *testing.T) {
	play(t, func(t *testing.T, h *host, a *actor) {
		a.onStart = func(c Command) {
			b, err := os.ReadFile(h.dir + "/data/instances/web.json")
			if err != nil {
				t.Fatal(err)
			}
			var r record
			if err := json.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
			if r.Group.PID != 0 || !slices.Contains(c.Env, "DOMINION_INSTANCE="+r.Instance) {
				t.Errorf("noted %+v", r)
			}
		}
		h.apply(one("web", spec("r1")))
		h.pass(time.Second)
		a.end(h.get("web").PID, Exit{Code: 1, Known: true})
		h.pass(time.Second) // nothing of the life before is in the record
		if i := h.get("web"); i.Restarts != 1 {
			t.Errorf("%+v", i)
		}
	})
}

// A oneshot that is done stays done over a restart of the machine; what merely
// ended is started again.
func TestVirtualDoneStaysDoneOverAReboot(t *testing.T) {
	play(t, func(t *testing.T, h *host, a *actor) {
		h.makefile("job", "true")
		s := spec("r1")
		s.Restart.Policy = topics.RestartOnFailure
		job := s
		job.Oneshot = true
		both := map[string]topics.Spec{"job": job, "web": s}
		h.apply(both)
		h.pass(2 * time.Second)
		for _, name := range []string{"job", "web"} {
			a.end(h.get(name).PID, Exit{Code: 0, Known: true})
		}
		h.pass(time.Second)
		if h.get("job").State != topics.Finished || h.get("web").State != topics.Finished {
			t.Fatalf("%+v", h.s.Instances())
		}
		h.s.Close()
		a.boot = "2"
		h.open(func(o *Options) { o.Runner = a })
		h.s.Adopt(time.Now())
		h.apply(both)
		h.pass(2 * time.Second)
		if i := h.get("job"); i.State != topics.Finished || i.ExitCode == nil || *i.ExitCode != 0 {
			t.Errorf("the oneshot is %+v", i)
		}
		if i := h.get("web"); i.State != topics.Running {
			t.Errorf("what is none is %+v", i)
		}
	})
}
