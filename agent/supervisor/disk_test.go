package supervisor

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A data_dir that does not answer delays what has to be on it: what crashed is
// not started until it answers. Orders to stop are obeyed, and health is watched.
func TestDataDirThatDoesNotAnswer(t *testing.T) {
	h := newHost(t)
	h.makefile("crashes", `echo $$ > $d/crashes; exec sleep 100`)
	h.makefile("ends", `echo $$ > $d/ends; exec sleep 100`)
	h.write("services/sick/service.toml", "[health]\ncommand = [\"./well\"]\ninterval = \"50ms\"\nfailures = 1\n")
	h.makefile("sick", `exec sleep 100`)
	h.write("services/sick/well", "#!/bin/sh\ntest ! -e "+h.dir+"/ill\n")
	if err := os.Chmod(h.dir+"/services/sick/well", 0o755); err != nil {
		t.Fatal(err)
	}
	s := spec("r1")
	s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(50*time.Millisecond), topics.Seconds(time.Second)
	all := map[string]topics.Spec{"crashes": s, "ends": s, "sick": s}
	h.apply(all)
	for name := range all {
		h.untilState(name, topics.Running)
	}

	// Whoever opens a FIFO to write waits until somebody reads.
	fifo := h.dir + "/data/instances/new.json.tmp"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	h.makefile("new", `exec sleep 100`)
	all["new"] = s
	h.apply(all) // the first to find that out waits for the deadline, and runs
	if i := h.get("new"); !i.State.Alive() {
		t.Errorf("what was about to start is %+v", i)
	}

	h.crash("crashes")
	h.until("what crashed waits for the disk", func() bool {
		i := h.get("crashes")
		return i.State == topics.Backoff && strings.Contains(i.Message, "data_dir does not answer")
	})
	h.write("ill", "")
	h.until("what is not well is noticed", func() bool { return h.get("sick").Health == topics.Unhealthy })
	pid := h.pid("ends")
	delete(all, "ends")
	before := time.Now()
	h.apply(all)
	h.untilState("ends", topics.Stopped)
	if alive(pid) {
		t.Error("what was to stop runs")
	}
	t.Logf("stopped after %v", time.Since(before).Round(time.Millisecond))
	if h.reported(topics.DomainProblem, "") == 0 {
		t.Errorf("nobody is told: %q", h.reports)
	}

	answers, err := os.Open(fifo) // now it does
	if err != nil {
		t.Fatal(err)
	}
	defer answers.Close()
	h.untilState("crashes", topics.Running)
	h.until("the record of what stopped is gone", func() bool {
		_, err := os.Stat(h.dir + "/data/instances/ends.json")
		return os.IsNotExist(err)
	})
	h.until("the records are whole", func() bool {
		info, err := os.Stat(h.dir + "/data/instances/new.json")
		return err == nil && info.Mode().IsRegular()
	})
}
