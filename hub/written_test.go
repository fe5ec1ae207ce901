package hub_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/topics"
)

// filesWritten returns a count of the files that were written in a directory, as
// the kernel sees it.
func filesWritten(t *testing.T, dir string) func() int {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CLOSE_WRITE); err != nil {
		t.Fatal(err)
	}
	all := 0
	return func() int {
		var buf [64 << 10]byte
		for {
			n, err := unix.Read(fd, buf[:])
			if errors.Is(err, unix.EAGAIN) {
				return all
			}
			if err != nil {
				t.Fatal(err)
			}
			for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
				if binary.NativeEndian.Uint32(b[4:])&unix.IN_Q_OVERFLOW != 0 {
					t.Fatal("more files were written than the kernel counts")
				}
				all++
				b = b[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(b[12:]):]
			}
		}
	}
}

// Whatever flaps, and whoever asks, for three hours: the hub's own files stay within
// what is documented.
func TestHoursOfWhatMakesTheHubWrite(t *testing.T) {
	for _, c := range []struct {
		name  string
		most  int // files
		every time.Duration
		do    func(h *home, kitchen *agent, round int)
	}{
		{"at rest", 2, time.Hour, func(*home, *agent, int) {}},
		{"a domain that is lost and comes back", 50, 10 * time.Second, func(h *home, kitchen *agent, round int) {
			if round%2 == 0 {
				kitchen.kill()
			} else if err := kitchen.join(); err != nil {
				h.Error(err)
			}
		}},
		{"somebody who starts and stops", 600, 5 * time.Second, func(h *home, _ *agent, round int) {
			h.publish("dominion/service/lamp/set", []string{"ON", "OFF"}[round%2], false)
		}},
		{"a domain that tells a temperature and does not", 50, 10 * time.Second, func(h *home, kitchen *agent, round int) {
			m := topics.Metrics{}
			if round%2 == 0 {
				degrees := 40.0
				m.Temperature = &degrees
			}
			h.publish(h.tree.Domain(topics.DomainMetrics, "kitchen"), string(topics.Encode(m)), false)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inHome(t, chain, func(h *home) {
				kitchen := h.agent("kitchen", []string{"lamp"}, "lamp", "web", "orchestrator")
				if err := kitchen.join(); err != nil {
					h.Fatal(err)
				}
				time.Sleep(20 * time.Second)
				written := filesWritten(t, h.dataDir)
				for began, round := time.Now(), 0; time.Since(began) < 3*time.Hour; round++ {
					c.do(h, kitchen, round)
					time.Sleep(c.every)
					synctest.Wait()
					written()
				}
				t.Logf("%d files", written())
				if n := written(); n > c.most {
					t.Errorf("%d files were written in three hours, want %d at most", n, c.most)
				}
			})
		})
	}
}

// The hub writes at its end what waited: no change is forgotten by a restart.
func TestWhatWaitsToBeWrittenIsWrittenAtTheEnd(t *testing.T) {
	inHome(t, chain, func(h *home) {
		for n := range 1001 { // more than is written at once
			h.publish("dominion/service/lamp/set", []string{"ON", "OFF"}[n%2], false)
		}
		h.publish("dominion/service/lamp/set", "OFF", false)
		file := filepath.Join(h.dataDir, "hub.json")
		h.stop()
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), `"OFF"`) {
			t.Errorf("%s %v", b, err)
		}
		h.start()
		if s := h.service("lamp"); s.Switch != topics.Off {
			t.Errorf("after a restart it is %q", s.Switch)
		}
	})
}
