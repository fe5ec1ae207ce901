package supervisor

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A service below make that is petted, falls silent, and is started again.
func TestWatchdog(t *testing.T) {
	h := newHost(t)
	say := func(lines string) string { return strings.TrimSpace(notifies(t, lines)) }
	h.makefile("web", `echo "$WATCHDOG_USEC,$WATCHDOG_PID" > $d/env
echo life >> $d/lives
`+say("READY=1")+`
while test -e $d/awake; do `+say("WATCHDOG=1")+`; sleep 0.05; done
echo "waiting for the stick"
sleep 100`)
	h.write("awake", "")
	s := spec("r1")
	s.Health = &topics.HealthCheck{Notify: true, Watchdog: topics.Seconds(3 * time.Second)}
	h.apply(one("web", s))
	first := h.untilState("web", topics.Running)
	if got := h.read("env"); got != "3000000," {
		t.Errorf("WATCHDOG_USEC,WATCHDOG_PID are %q: make has another pid than what notifies", got)
	}
	began := time.Now()
	h.until("it was petted for longer than it may be silent", func() bool { return time.Since(began) > 4*time.Second })
	if i := h.get("web"); i.PID != first.PID || i.Health != topics.Healthy {
		t.Fatalf("it is %+v although it sent WATCHDOG=1 all the time", i)
	}
	if err := h.remove("awake"); err != nil {
		t.Fatal(err)
	}
	h.until("it lives again", func() bool { return h.read("lives") == "life\nlife" })
	want := string(topics.ServiceUnhealthy) + " web: it did not send WATCHDOG=1 within 3 s\nwaiting for the stick"
	if !strings.Contains(strings.Join(h.reports, "\n"), want) {
		t.Errorf("reports %v\nwant %q", h.reports, want)
	}
	if i := h.get("web"); i.Restarts != 1 {
		t.Errorf("%+v", i)
	}
}

// A service that is killed with its agent away has the watchdog it had.
func TestWatchdogAfterAdoption(t *testing.T) {
	h := bare(t)
	h.makefile("web", notifies(t, "READY=1")+"echo life >> $d/lives; exec sleep 100")
	s := spec("r1")
	s.Health = &topics.HealthCheck{Notify: true, Watchdog: topics.Seconds(2 * time.Second)}
	a := startAgent(t, h.dir)
	a.apply(one("web", s))
	pid := a.untilState("web", topics.Running).PID
	a.kill()
	a = startAgent(t, h.dir)
	if i := a.untilState("web", topics.Running); i.PID != pid {
		t.Fatalf("%+v, want process %s adopted", i, strconv.Itoa(pid))
	}
	a.apply(one("web", s))
	a.until("its silence was noticed", func(v view) bool { return v.get("web").Restarts == 1 })
	a.stopAll(h)
	a.kill()
}

// One that ends by itself is out of service from its notification on.
func TestStoppingByItself(t *testing.T) {
	h := newHost(t)
	h.makefile("once", notifies(t, "READY=1")+notifies(t, "STOPPING=1;STATUS=bye")+"while test ! -e $d/go; do sleep 0.02; done")
	s := spec("r1")
	s.Restart.Policy = topics.RestartOnFailure
	s.Health = &topics.HealthCheck{Notify: true}
	h.apply(one("once", s))
	if i := h.untilState("once", topics.Stopping); i.Message != "stopping: it ends by itself" || i.Health != topics.UnknownHealth {
		t.Errorf("%+v", i)
	}
	h.write("go", "")
	if i := h.untilState("once", topics.Finished); i.ExitCode == nil || *i.ExitCode != 0 {
		t.Errorf("%+v", i)
	}
}
