package supervisor

import (
	"encoding/json"
	"errors"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// record is what the next agent needs to adopt a life. It is valid within one boot
// of the machine, so it is written without fsync: it survives a kill of the agent,
// and a power cut ends the processes, too. That of a oneshot that has completed is
// valid for good.
type record struct {
	Service string `json:"service"`
	Boot    string `json:"boot"`
	// Instance is DOMINION_INSTANCE.
	Instance string `json:"instance"`
	// Group has pid 0 if the life was about to be started.
	Group    Group          `json:"group"`
	Revision string         `json:"revision"`
	Version  string         `json:"version,omitempty"`
	Port     int            `json:"port,omitempty"`
	Spec     topics.Spec    `json:"spec"`
	Since    time.Time      `json:"since"`
	Ready    bool           `json:"ready"`
	Finished bool           `json:"finished,omitempty"`
	ExitCode *int           `json:"exit_code,omitempty"`
	Watchdog topics.Seconds `json:"watchdog,omitempty"`
	Restarts int            `json:"restarts"`
	Stopping *stopping      `json:"stopping,omitempty"`
}

// done reports whether this is of a oneshot that ended well: it does not run
// again after a restart of the machine.
func (r record) done() bool {
	return r.Finished && r.Spec.Oneshot && r.ExitCode != nil && *r.ExitCode == 0
}

func (s *Supervisor) recordFile(name string) string {
	return filepath.Join(s.instancesDir(), name+".json")
}

func (s *Supervisor) record(v *service, r run) record {
	stored := record{
		Service: v.Service, Boot: s.o.Runner.Boot(), Instance: r.Token, Group: v.life.group,
		Revision: r.Revision, Version: r.Version, Port: r.Port, Spec: v.commandSpec,
		Since: v.Since, Ready: !r.Ready.IsZero(), Watchdog: topics.Seconds(r.Watchdog), Restarts: v.Restarts,
		Finished: v.State == topics.Finished, ExitCode: v.ExitCode,
	}
	if v.State == topics.Stopping && r.Token == v.Run.Token { // not the life that follows
		stored.Stopping = &stopping{v.Then, v.Why}
	}
	return stored
}

// recordsDaily is how many bytes a day are written of records and ports. A service
// that starts and ends all the time gets no more: the next agent finds a life
// without a record in /proc, as after a full disk.
const recordsDaily = 50_000_000

// writeIntent writes the record of a life before it begins.
func (s *Supervisor) writeIntent(v *service, r run) {
	v.dirty = true
	if !s.budget.Allows(r.Started) {
		return
	}
	err := s.writeRecord(s.record(v, r), r.Started)
	if err == nil {
		s.retryWriteAt = time.Time{} // there is room: what was refused before is due
	}
	s.reportDisk("record", err)
}

// write writes the records that changed; what the disk refuses is tried again.
func (s *Supervisor) write(now time.Time) {
	if !s.retryWriteAt.IsZero() && now.Before(s.retryWriteAt) {
		return
	}
	s.retryWriteAt = time.Time{}
	if next := s.budget.Next(now); next.After(now) && s.hasUnwritten() {
		s.retryWriteAt = next
		return
	}
	if err := s.writeAll(now); err != nil {
		s.retryWriteAt = now.Add(diskRetry)
	}
}

// hasUnwritten reports whether there is anything to write.
func (s *Supervisor) hasUnwritten() bool {
	for _, v := range s.services {
		if v.dirty {
			return true
		}
	}
	return s.ports.dirty || len(s.stale) > 0
}

// writeAll writes the records that changed, whatever was written today.
func (s *Supervisor) writeAll(now time.Time) (failed error) {
	for name := range s.stale {
		if v := s.services[name]; v != nil && v.dirty {
			continue // its record is written again below
		}
		if err := s.removeRecordFile(name); err != nil {
			failed = err
			continue
		}
		delete(s.stale, name)
	}
	for _, v := range s.services {
		if !v.dirty {
			continue
		}
		if err := s.writeRecord(s.record(v, v.Run), now); err != nil {
			failed = err
			continue
		}
		v.dirty = false
	}
	if failed == nil {
		failed = s.savePorts(now)
	}
	s.reportDisk("record", failed)
	return failed
}

// writeRecord writes a record in place of the one before: durably if it is that of a
// completed oneshot.
func (s *Supervisor) writeRecord(r record, now time.Time) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	name, dir, done := s.recordFile(r.Service), s.instancesDir(), r.done()
	err = s.onDisk(func() error {
		if done {
			return atomicfile.Write(name, b, 0o600)
		}
		if err := os.WriteFile(name+".tmp", b, 0o600); err != nil {
			_ = os.MkdirAll(dir, 0o700) // for the next try
			return err
		}
		return os.Rename(name+".tmp", name)
	})
	if err == nil || errors.Is(err, errHung) {
		s.budget.Charge(len(b), now)
	}
	if err == nil {
		delete(s.stale, r.Service)
	}
	return err
}

func (s *Supervisor) removeRecord(name string) {
	err := s.removeRecordFile(name)
	if errors.Is(err, errHung) {
		s.stale[name] = true
	} else if err != nil {
		s.o.Log.Warn("cannot remove a record; the next agent finds it stale", "error", err)
	}
}

func (s *Supervisor) removeRecordFile(name string) error {
	file := s.recordFile(name)
	err := s.onDisk(func() error { return os.Remove(file) })
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}

// seed makes the jitter of each service its own.
func seed(name string) (uint64, uint64) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64(), uint64(len(name))
}
