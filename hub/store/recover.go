package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// membersFile stands beside the keys, in data_dir/identity: who was adopted, for a hub that
// has lost hub.json.
const membersFile = "members.json"

// members is the content of membersFile. Its words are those of when it was written: the hub
// recognizes later ones by its key of the words.
type members struct {
	Dominion  string                     `json:"dominion"`
	Members   map[string]adoption.Member `json:"members"`
	Forgotten map[string]string          `json:"forgotten,omitempty"`
}

// ChangeMembers is Change for a change of who is adopted, which membersFile has too.
func (s *Store) ChangeMembers(change func(*State)) {
	s.Change(change)
	s.unsaved.members = true
}

// Recovered says what was recovered although hub.json was lost or damaged; "": it was not.
func (s *Store) Recovered() string { return s.recovered }

// membersPath returns the path of membersFile.
func (s *Store) membersPath() string {
	return filepath.Join(filepath.Dir(s.path), identity.Directory, membersFile)
}

// recover restores the id of the dominion from its certificates, and who was adopted from
// membersFile, where there is no hub.json that can be read. The keys that are missing then are
// lost, as they are where there is one.
func (s *Store) recover(log *slog.Logger) error {
	id := identity.DominionOf(filepath.Dir(s.path))
	if id == "" {
		return nil
	}
	stored, _, err := atomicfile.ReadJSON[members](s.membersPath(), log)
	if err != nil {
		return err
	}
	s.state.ID, s.state.Keys = id, true
	if stored.Dominion == id {
		s.state.Adoption.Members, s.state.Adoption.Forgotten = stored.Members, stored.Forgotten
		for id, m := range stored.Members {
			m.WordsLost = true
			stored.Members[id] = m
		}
	}
	s.recovered = fmt.Sprintf("%s was lost or is damaged: the dominion and %d adopted domains were recovered from %s; what was switched or scaled by hand, tokens, and the history of updates are not known any more", s.path, len(s.state.Adoption.Members), filepath.Dir(s.membersPath()))
	log.Error(s.recovered)
	return nil
}

// missesMembers reports whether domains are adopted and membersFile is missing: an older
// version did not write it.
func (s *Store) missesMembers() bool {
	if len(s.state.Adoption.Members) == 0 {
		return false
	}
	_, err := os.Stat(s.membersPath())
	return errors.Is(err, fs.ErrNotExist)
}

// writeMembers writes membersFile if who is adopted has changed.
func (s *Store) writeMembers(now time.Time) error {
	if !s.unsaved.members {
		return nil
	}
	path := s.membersPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot make the directory of keys: %w", err)
	}
	a := s.state.Adoption
	err := s.budget.WriteJSON(path, members{s.state.ID, a.Members, a.Forgotten}, now)
	s.unsaved.members = err != nil
	return err
}
