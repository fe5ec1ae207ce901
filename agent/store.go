package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/agent/orders"
	"github.com/jmbarzee/dominion/agent/programs"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// memory is the content of data_dir/memory.json. The epoch and generation are
// those of the start command, which has its own file.
type memory struct {
	// Dominion is the dominion that was joined last, Hub the URL of its broker.
	Dominion link.Dominion `json:"dominion"`
	Hub      string        `json:"hub,omitempty"`
	Draining bool          `json:"draining"`
	// Adopted is set once the domain has joined a dominion that adopted it: its key is
	// lost if it is missing.
	Adopted bool `json:"adopted,omitempty"`
	// CertifiesServices is set if that dominion issues certificates to the services here.
	CertifiesServices bool `json:"certifies_services,omitempty"`
}

// The files of data_dir that an agent's memory is in.
const (
	memoryFile  = "memory.json"
	commandFile = "command.json"
	// programsFile has what services run from: package programs.
	programsFile = "programs.json"
)

// storeDaily is how many bytes a day are written of these files. What makes them
// change is foreign: a dependency that is reached at one domain and then at
// another, a trait that comes and goes, a user who starts and stops services.
const storeDaily = 50_000_000

// minorInterval is the time between two writes of start commands by which the
// same services run in the same revision.
const minorInterval = time.Minute

// store persists memory and the last start command. It writes only what changed,
// and writes later what the disk refused, what can wait, and what changes too
// often.
type store struct {
	memoryFile, commandFile, programsFile string
	memory                                memory
	command                               topics.StartCommand
	// programs are which bundles were healthy.
	programs map[string]programs.Record
	// ratchet is the newest signed start command of each hub key; it is in the same file.
	ratchet signed.Ratchet
	// signed is command as its hub signed it, "" if it was not; it is in the same file.
	signed string
	// taken reports that command holds one.
	taken  bool
	budget *atomicfile.Budget
	// files writes, so that the loop does not wait for a disk that hangs.
	files *foreign.Files
	dir   string
	// minorAt is when a start command of the same services is written, at the earliest.
	minorAt time.Time
	pending map[string]pending
	log     *slog.Logger
}

// pending is the content of a file that is not on disk yet.
type pending struct {
	content any
	// at is when it is written, at the earliest.
	at time.Time
	// refused reports that the disk did not take it.
	refused bool
}

// openStore returns the store of an agent with what its files hold.
func openStore(dataDir string, files *foreign.Files, log *slog.Logger) (*store, error) {
	s := &store{
		memoryFile:  filepath.Join(dataDir, memoryFile),
		commandFile: filepath.Join(dataDir, commandFile), programsFile: filepath.Join(dataDir, programsFile),
		budget: atomicfile.NewBudget(storeDaily),
		files:  files, dir: dataDir,
		pending: make(map[string]pending),
		log:     log,
	}
	var err error
	if s.memory, _, err = atomicfile.ReadJSON[memory](s.memoryFile, log); err != nil {
		return nil, err
	}
	if s.programs, _, err = atomicfile.ReadJSON[map[string]programs.Record](s.programsFile, log); err != nil {
		return nil, err
	}
	stored, taken, err := atomicfile.ReadJSON[storedCommand](s.commandFile, log)
	if err != nil {
		return nil, err
	}
	s.command, s.ratchet, s.signed, s.taken = stored.StartCommand, stored.Ratchet, stored.Signed, taken
	return s, nil
}

// storedCommand is the content of data_dir/command.json: the start command in force, and the
// ratchet that makes older ones worthless. One write stores both.
type storedCommand struct {
	topics.StartCommand
	signed.Ratchet
	// Signed is the start command as its hub signed it, which a join shows.
	Signed string `json:"signed,omitempty"`
}

// setMemory replaces the memory.
func (s *store) setMemory(m memory, now time.Time) error {
	if m == s.memory {
		return nil
	}
	s.memory = m
	return s.write(s.memoryFile, m, now)
}

// setPrograms replaces which bundles were healthy.
func (s *store) setPrograms(all map[string]programs.Record, now time.Time) error {
	s.programs = all
	return s.write(s.programsFile, all, now)
}

// setCommand replaces the start command, with its message if it was signed, and the ratchet. One that starts the same services
// in the same revision is written once in minorInterval at most: after a power cut it could
// be replayed, and would start nothing else.
func (s *store) setCommand(c topics.StartCommand, ratchet signed.Ratchet, message string, now time.Time) error {
	minor := s.taken && equivalentCommands(s.command, c)
	s.command, s.ratchet, s.signed, s.taken = c, ratchet, message, true
	content := storedCommand{c, ratchet, message}
	if minor {
		if p, waits := s.pending[s.commandFile]; waits {
			p.content = content
			s.pending[s.commandFile] = p
			return nil
		}
		if now.Before(s.minorAt) {
			s.pending[s.commandFile] = pending{content: content, at: s.minorAt}
			return nil
		}
		s.minorAt = now.Add(minorInterval)
	}
	return s.write(s.commandFile, content, now)
}

// equivalentCommands reports whether either of two start commands would start the
// same after a power cut, apart from addresses of dependencies and the times of a
// service. Commands with exclusive services never are: these get a number that only
// grows.
func equivalentCommands(a, b topics.StartCommand) bool {
	if a.Dominion != b.Dominion || a.Domain != b.Domain || a.Epoch != b.Epoch || a.Run != b.Run || a.Key != b.Key || len(a.Services) != len(b.Services) {
		return false
	}
	for name, x := range a.Services {
		y, there := b.Services[name]
		if !there || x.Revision != y.Revision || x.Exclusive || y.Exclusive {
			return false
		}
	}
	return true
}

// retry writes what is pending and due: a full disk may have room again.
func (s *store) retry(now time.Time) {
	for file, p := range s.pending {
		if now.Before(p.at) || !s.budget.Allows(now) {
			continue
		}
		if !p.refused && file == s.commandFile {
			s.minorAt = now.Add(minorInterval)
		}
		if s.write(file, p.content, now) == nil && p.refused {
			s.log.Info("written at last", "file", file)
		}
	}
}

// flush writes what is pending at the end of the agent, whatever was written today.
func (s *store) flush() {
	for file, p := range s.pending {
		if _, err := s.writeFile(file, p.content); err != nil {
			s.log.Warn("the next agent begins with what was before", "error", err)
		}
	}
}

// write writes v to a file. If the disk refuses it or does not answer, or too much
// was written today, v becomes pending. It is in force all the same: services
// matter more than files.
func (s *store) write(file string, v any, now time.Time) error {
	if next := s.budget.Next(now); next.After(now) {
		s.pending[file] = pending{content: v, at: next}
		return nil
	}
	size, err := s.writeFile(file, v)
	if err == nil || errors.Is(err, foreign.ErrBusy) {
		s.budget.Charge(size, now)
	}
	if err != nil {
		s.pending[file] = pending{content: v, refused: true}
		return fmt.Errorf("%w (obeyed all the same; a power cut now would bring back what was before)", err)
	}
	delete(s.pending, file)
	return nil
}

// writeFile writes v in another goroutine, and returns its size in bytes. It does
// not wait for a disk that hangs.
func (s *store) writeFile(file string, v any) (size int, err error) {
	content, err := atomicfile.Encode(file, v)
	if err != nil {
		return 0, err
	}
	_, err = foreign.Do(s.files, s.dir, func() (struct{}, error) { return struct{}{}, atomicfile.Write(file, content, 0o600) })
	return len(content), err
}

// accepted returns the position of the start command, if that is of the dominion that
// the domain has joined: each dominion counts its own.
func (s *store) accepted() orders.Accepted {
	if !s.taken || s.command.Dominion != s.memory.Dominion.ID {
		return orders.Accepted{}
	}
	return orders.Accepted{Present: true, Epoch: s.command.Epoch, Generation: s.command.Generation, Run: s.command.Run}
}
