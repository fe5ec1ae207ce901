package agent

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/jmbarzee/dominion/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// identity is the id and name of a dominion.
type identity struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// memory is what an agent keeps in data_dir/memory.json. The epoch and
// generation are those of the start command, kept beside it.
type memory struct {
	Dominion identity `json:"dominion"`      // joined last
	Hub      string   `json:"hub,omitempty"` // URL of its broker
	Draining bool     `json:"draining"`
}

// The files of data_dir that an agent's memory is in.
const (
	memoryFile  = "memory.json"
	commandFile = "command.json"
)

// store keeps memory and the last start command on disk. It writes only what
// changed, and tries again later what could not be written.
type store struct {
	memoryFile, commandFile string
	memory                  memory
	command                 topics.StartCommand
	taken                   bool // command holds one
	unwritten               map[string]any
	log                     *slog.Logger
}

func openStore(dataDir string, log *slog.Logger) (*store, error) {
	s := &store{
		memoryFile:  filepath.Join(dataDir, memoryFile),
		commandFile: filepath.Join(dataDir, commandFile),
		unwritten:   make(map[string]any),
		log:         log,
	}
	var err error
	if s.memory, _, err = atomicfile.ReadJSON[memory](s.memoryFile, log); err != nil {
		return nil, err
	}
	if s.command, s.taken, err = atomicfile.ReadJSON[topics.StartCommand](s.commandFile, log); err != nil {
		return nil, err
	}
	return s, nil
}

// remember replaces the memory.
func (s *store) remember(m memory) error {
	if m == s.memory {
		return nil
	}
	s.memory = m
	return s.write(s.memoryFile, m)
}

// take replaces the start command.
func (s *store) take(c topics.StartCommand) error {
	s.command, s.taken = c, true
	return s.write(s.commandFile, c)
}

// retry writes what could not be written before: a full disk may have room
// again.
func (s *store) retry() {
	for file, v := range s.unwritten {
		if s.write(file, v) == nil {
			s.log.Info("written at last", "file", file)
		}
	}
}

// write keeps v for a later try when the disk takes nothing: what it says is
// obeyed all the same, services matter more than files.
func (s *store) write(file string, v any) error {
	if err := atomicfile.WriteJSON(file, v); err != nil {
		s.unwritten[file] = v
		return fmt.Errorf("%w (obeyed all the same; a power cut now would bring back what was before)", err)
	}
	delete(s.unwritten, file)
	return nil
}

// position is the epoch and generation of the start command, if that is of
// the dominion joined: another dominion counts its own.
func (s *store) position() (epoch, generation uint64, taken bool) {
	if !s.taken || s.command.Dominion != s.memory.Dominion.ID {
		return 0, 0, false
	}
	return s.command.Epoch, s.command.Generation, true
}
