package supervisor

import (
	"errors"
	"fmt"
	"io"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/topics"
)

// errHung is of data_dir where its disk does not answer. What has to be on it
// waits, and nothing else: other services are stopped, watched and started again
// meanwhile as far as they need no file.
var errHung = errors.New("data_dir does not answer")

// onDisk runs f, which changes something in data_dir, in another goroutine, and
// waits no longer than foreign.Do does. f may then take effect later, but not after
// a later call, which fails until f has returned.
func (s *Supervisor) onDisk(f func() error) error {
	_, err := foreign.Do(s.o.Files, s.o.DataDir, func() (struct{}, error) { return struct{}{}, f() })
	return s.explainHung(err)
}

// openOnDisk opens something in data_dir as onDisk writes.
func openOnDisk[T io.Closer](s *Supervisor, f func() (T, error)) (T, error) {
	opened, err := foreign.Open(s.o.Files, s.o.DataDir, f)
	return opened, s.explainHung(err)
}

func (s *Supervisor) explainHung(err error) error {
	if errors.Is(err, foreign.ErrBusy) {
		return fmt.Errorf("%w: is the disk of %s all right", errHung, s.o.DataDir)
	}
	return err
}

// reportDisk reports a problem of the disk once, until it is over.
func (s *Supervisor) reportDisk(what string, err error) {
	if err == nil {
		delete(s.diskReported, what)
		return
	}
	if !s.diskReported[what] {
		s.diskReported[what] = true
		s.o.Log.Warn("cannot write to disk, services run on", "what", what, "error", err)
		s.o.Report(topics.DomainProblem, "", fmt.Sprintf("the disk refuses: %v; services run on, it is tried again", err))
	}
}
