// Package store persists what a hub must not lose: its id, its epoch, what users have set
// at run time, and its domains. One small file, written
// when one of these changes and at no other time. Only hub imports it.
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/hub/rotation"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/internal/filelock"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// Lock makes dir, if it is missing, and holds it for one hub until the returned
// file is closed or the process ends: two hubs on one memory would each give
// start commands in the name of the other.
func Lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make data_dir: %w", err)
	}
	f, err := filelock.Lock(filepath.Join(dir, "lock"))
	if errors.Is(err, filelock.ErrInUse) {
		return nil, fmt.Errorf("cannot use data_dir %s: another hub uses it (stop that one, or give this one a data_dir of its own)", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot lock data_dir: %w", err)
	}
	return f, nil
}

// State is the content of the file.
type State struct {
	ID    string `json:"id"`
	Epoch uint64 `json:"epoch"`
	// Raised is by how much heartbeats have raised the epoch in all.
	Raised uint64 `json:"raised,omitempty"`
	// Overrides are by service.
	Overrides map[string]planner.Override `json:"wants"`
	// Domains are by name.
	Domains map[string]Domain `json:"domains"`
	// LeaseValidity is how long the longest lease that was granted may keep a service from
	// others.
	LeaseValidity topics.Seconds `json:"patience,omitempty"`
	// Rollouts may hold secrets: the environment of a service is in its spec.
	Rollouts map[string]rollout.Record `json:"rollouts,omitempty"` // by service
	// Prefix is the topic_prefix of the last run, FormerPrefixes those before it below
	// which something may still be retained.
	Prefix         string   `json:"prefix,omitempty"`
	FormerPrefixes []string `json:"former_prefixes,omitempty"`
	// Adoption holds the domains that were adopted, tokens and the key list.
	Adoption adoption.HubState `json:"adoption,omitzero"`
	// Rotation is how far a change of the authority has come.
	Rotation rotation.State `json:"rotation,omitzero"`
	// Keys is set once the keys in data_dir/identity were made: those that are missing
	// then are lost.
	Keys bool `json:"keys,omitempty"`
}

// Domain is a domain that joined once and was not forgotten.
type Domain struct {
	ID string `json:"id"`
	// Lost was so when it was last written: a hub that starts does not wait
	// for a domain that was gone before.
	Lost bool `json:"lost,omitempty"`
	// Hot is a domain that reports a temperature, for which Home Assistant has an
	// entity: metrics are not persisted, and it must not go and come back with them.
	Hot bool `json:"hot,omitempty"`
	// User is the broker's user by which it joined last; empty: without one, or
	// by a broker that does not report it.
	User string `json:"user,omitempty"`
}

// What is written in a day of the State and of notes, in bytes. Others can make
// both change as often as they like: a domain that may ask for starts and stops,
// devices that come and go.
const (
	stateDaily = 50_000_000
	notesDaily = 20_000_000
)

// Store is the file. It is owned by the hub's loop.
type Store struct {
	path  string
	state State
	// err is why the last change is not in the file; nil: it is.
	err    error
	budget *atomicfile.Budget
	notes  *atomicfile.Budget
	log    *slog.Logger
	// unsaved is what of state is to be written, and when.
	unsaved unsaved

	// recovered is what Recovered returns.
	recovered string

	// waited is how long the disk took for all writes of this run.
	waited time.Duration
}

// Open reads the file in dir, which is made if it is missing. A file that a
// power cut broke is set aside with a warning; what the keys beside it tell is recovered. A dir that cannot be written
// from the beginning is an error: the hub would be another one at each start.
func Open(dir string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make data_dir: %w", err)
	}
	s := &Store{
		path: filepath.Join(dir, "hub.json"), log: log,
		budget: atomicfile.NewBudget(stateDaily), notes: atomicfile.NewBudget(notesDaily),
	}
	state, _, err := atomicfile.ReadJSON[State](s.path, log)
	if err != nil {
		return nil, err
	}
	if state.Overrides == nil {
		state.Overrides = make(map[string]planner.Override)
	}
	if state.Domains == nil {
		state.Domains = make(map[string]Domain)
	}
	if state.Rollouts == nil {
		state.Rollouts = make(map[string]rollout.Record)
	}
	s.state = state
	if state.ID == "" {
		if err := s.recover(log); err != nil {
			return nil, err
		}
		if s.state.ID == "" {
			s.state.ID = topics.NewID()
		}
		if s.err = s.writeFile(time.Now()); s.err != nil {
			return nil, s.err
		}
	}
	if s.missesMembers() {
		s.ChangeMembers(func(*State) {})
	}
	return s, nil
}

// ID returns the id of the dominion.
func (s *Store) ID() string { return s.state.ID }

// Epoch returns the epoch.
func (s *Store) Epoch() uint64 { return s.state.Epoch }

// Raised returns by how much heartbeats have raised the epoch in all.
func (s *Store) Raised() uint64 { return s.state.Raised }

// Override returns what users have set for a service at run time.
func (s *Store) Override(service string) planner.Override { return s.state.Overrides[service] }

// Overrides returns a copy of what users have set for all services.
func (s *Store) Overrides() map[string]planner.Override { return maps.Clone(s.state.Overrides) }

// LeaseValidity returns how long leases that an earlier run granted may keep services from
// others, as far as this file knows.
func (s *Store) LeaseValidity() time.Duration { return s.state.LeaseValidity.Duration() }

// Rollouts returns the services of which a record is stored.
func (s *Store) Rollouts() []string { return slices.Collect(maps.Keys(s.state.Rollouts)) }

// Rollout returns the stored record of how a service changed. It must not be changed.
func (s *Store) Rollout(service string) rollout.Record { return s.state.Rollouts[service] }

// Domain returns what is stored of a domain.
func (s *Store) Domain(domain string) Domain { return s.state.Domains[domain] }

// Domains returns a copy of what is stored of all domains.
func (s *Store) Domains() map[string]Domain { return maps.Clone(s.state.Domains) }

// Adoption returns what is stored of adoptions.
func (s *Store) Adoption() adoption.HubState { return s.state.Adoption }

// Rotation returns how far a change of the authority has come.
func (s *Store) Rotation() rotation.State { return s.state.Rotation }

// HasKeys reports whether this data_dir has had the keys of the dominion.
func (s *Store) HasKeys() bool { return s.state.Keys }

// Prefix returns the topic_prefix of the last run; "": unknown.
func (s *Store) Prefix() string { return s.state.Prefix }

// FormerPrefixes returns the topic prefixes of earlier runs below which something
// may still be retained. They must not be changed.
func (s *Store) FormerPrefixes() []string { return s.state.FormerPrefixes }

// writeFile writes the State, and who is adopted beside the keys, and charges its budget at now.
func (s *Store) writeFile(now time.Time) error {
	began := time.Now()
	defer s.measure(began)
	return errors.Join(s.writeMembers(now), s.budget.WriteJSON(s.path, s.state, now))
}

func (s *Store) measure(began time.Time) { s.waited += time.Since(began) }

// Waited returns how long the disk took for all writes of this run.
func (s *Store) Waited() time.Duration { return s.waited }

// Err returns why the last change is not on disk, nil if it is.
func (s *Store) Err() error { return s.err }

// ReadNote reads what WriteNote wrote; the zero value where nothing was written
// or the disk does not return it, which is logged. A note is for what
// changes at another pace than the State and can be done without.
func ReadNote[T any](s *Store, name string, log *slog.Logger) T {
	v, _, err := atomicfile.ReadJSON[T](filepath.Join(filepath.Dir(s.path), name), log)
	if err != nil {
		log.Warn("going on without a file", "error", err)
	}
	return v
}

// WriteNote writes v into a file of its own beside the State.
func (s *Store) WriteNote(name string, v any) error {
	began := time.Now()
	defer s.measure(began)
	return s.notes.WriteJSON(filepath.Join(filepath.Dir(s.path), name), v, began)
}

// NextNote returns when WriteNote is within the budget of all notes.
func (s *Store) NextNote(now time.Time) time.Time { return s.notes.Next(now) }
