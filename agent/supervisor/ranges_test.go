package supervisor

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A copy that crashes does not start as a version that is out of a range that
// the start command names, whatever came onto the disk meanwhile; neither a
// restart nor another revision stops it for that.
func TestNoVersionOutOfItsRangesStarts(t *testing.T) {
	h := newHost(t)
	version := func(v string) {
		h.write("services/web/service.toml", "version = \""+v+"\"\n")
	}
	h.makefile("web", `echo "$SERVICE_VERSION" >> $d/versions; exec sleep 100`)
	version("1.0.0")
	s := spec("r1")
	s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(50*time.Millisecond), topics.Seconds(50*time.Millisecond)
	s.Versions = map[string]string{"app": "<2", "tv": ">=1"}
	h.apply(one("web", s))
	h.until("it runs", func() bool { return h.read("versions") == "1.0.0" })

	version("2.0.0")
	const reason = "app needs web <2, and version 2.0.0 is in its directory now"
	if err := h.s.Restart("web", time.Now()); err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("a restart is refused with %v", err)
	}
	pid := h.get("web").PID
	s.Revision = "r2"
	h.apply(one("web", s))
	if i := h.get("web"); i.PID != pid || !i.State.Alive() || !strings.Contains(i.Message, reason) {
		t.Errorf("another revision makes it %+v", i)
	}

	h.crash("web")
	i := h.untilState("web", topics.Failed)
	if !strings.Contains(i.Message, reason) || i.Version != "1.0.0" {
		t.Errorf("it failed: %+v", i)
	}
	h.until("it is reported", func() bool { return h.reported(topics.ServiceFailed, "web") == 1 })

	version("1.9.0")
	h.until("what fits starts", func() bool { return h.read("versions") == "1.0.0\n1.9.0" })

	version("2.0.0")
	h.crash("web")
	h.untilState("web", topics.Failed)
	s.Versions = nil
	s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(time.Hour), topics.Seconds(time.Hour)
	h.apply(one("web", s))
	h.until("without the range it starts", func() bool { return h.read("versions") == "1.0.0\n1.9.0\n2.0.0" })
}

// crash ends the processes of a service.
func (h *host) crash(name string) {
	h.t.Helper()
	if err := syscall.Kill(-h.get(name).PID, syscall.SIGKILL); err != nil {
		h.t.Fatal(err)
	}
}
