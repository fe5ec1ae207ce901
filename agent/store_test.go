package agent

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// storeOf returns a store and a count of the writes of its files so far.
func storeOf(t *testing.T) (s *store, written func() int) {
	t.Helper()
	s, err := openStore(t.TempDir(), foreign.New(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	last, n := make(map[string]os.FileInfo), 0
	return s, func() int { // called after each change: each write makes another file
		for _, file := range []string{s.memoryFile, s.commandFile} {
			info, err := os.Stat(file)
			if err != nil {
				continue
			}
			if was := last[file]; was == nil || !os.SameFile(was, info) || !was.ModTime().Equal(info.ModTime()) {
				n++
			}
			last[file] = info
		}
		return n
	}
}

// A dependency that is reached here and there, services that come and go, a
// domain that is drained and not: whatever changes each second for three hours, the
// agent writes no more than is documented, and has the newest at its end.
func TestHoursOfStartCommands(t *testing.T) {
	command := func(n int, port string, revision string) topics.StartCommand {
		return topics.StartCommand{Epoch: 1, Generation: uint64(n), Services: map[string]topics.Spec{
			"web": {Revision: revision, Dependencies: map[string]string{"db": "10.0.0.1:" + port}},
		}}
	}
	for name, change := range map[string]func(s *store, n int, now time.Time) error{
		"addresses": func(s *store, n int, now time.Time) error {
			return s.setCommand(command(n, []string{"1", "2"}[n%2], "r"), signed.Ratchet{}, "", now)
		},
		"services": func(s *store, n int, now time.Time) error {
			return s.setCommand(command(n, "1", []string{"r", "s"}[n%2]), signed.Ratchet{}, "", now)
		},
		"drain": func(s *store, n int, now time.Time) error {
			return s.setMemory(memory{Draining: n%2 == 0}, now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, written := storeOf(t)
			began := time.Now()
			files := 0
			for n := range 3 * 3600 {
				now := began.Add(time.Duration(n) * time.Second)
				if err := change(s, n, now); err != nil {
					t.Fatal(err)
				}
				if n%3 == 0 {
					s.retry(now)
				}
				files = written()
			}
			const cost = 5 * 4096
			t.Logf("%d files, %d kB", files, files*cost/1000)
			if files*cost > storeDaily/10+storeDaily/8 {
				t.Errorf("%d files in three hours", files)
			}
			s.flush()
			command, _, err := atomicfile.ReadJSON[topics.StartCommand](s.commandFile, s.log)
			if err != nil || command.Generation != s.command.Generation {
				t.Errorf("on disk is generation %d, taken was %d: %v", command.Generation, s.command.Generation, err)
			}
			memory, _, err := atomicfile.ReadJSON[memory](s.memoryFile, s.log)
			if err != nil || memory != s.memory {
				t.Errorf("on disk is %+v, %v", memory, err)
			}
		})
	}
}

// What changes which services run is on disk before it is obeyed, also while
// addresses flap; a changed address is there within a minute.
func TestWhatIsStartedIsOnDiskAtOnce(t *testing.T) {
	s, _ := storeOf(t)
	onDisk := func() uint64 {
		c, _, err := atomicfile.ReadJSON[topics.StartCommand](s.commandFile, s.log)
		if err != nil {
			t.Fatal(err)
		}
		return c.Generation
	}
	spec := topics.Spec{Revision: "r"}
	take := func(generation uint64, now time.Time, services map[string]topics.Spec) {
		if err := s.setCommand(topics.StartCommand{Generation: generation, Services: services}, signed.Ratchet{}, "", now); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	var n uint64
	for range 2000 {
		n++
		now = now.Add(time.Second)
		spec.Dependencies = map[string]string{"db": now.String()}
		take(n, now, map[string]topics.Spec{"web": spec})
		s.retry(now)
	}
	if behind := n - onDisk(); behind > 60 {
		t.Errorf("the disk is %d s behind", behind)
	}
	n++
	take(n, now, map[string]topics.Spec{"web": spec, "lamp": spec})
	if onDisk() != n {
		t.Errorf("a service that was added is not on disk")
	}
	n++
	take(n, now, map[string]topics.Spec{"web": {Revision: "r2"}, "lamp": spec})
	if onDisk() != n {
		t.Errorf("another revision is not on disk")
	}
	exclusive := topics.Spec{Revision: "r", Exclusive: true}
	for range 3 {
		n++
		take(n, now, map[string]topics.Spec{"lock": exclusive})
		if onDisk() != n {
			t.Errorf("a command with an exclusive service is not on disk")
		}
	}
}
