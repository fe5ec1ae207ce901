package broker

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/jmbarzee/dominion/atomicfile"
)

// The users that were made at run time are in a file of the data directory,
// beside those of the configuration, which win. It holds hashes alone.
const userFile = "users.json"

// storedUser is one of them.
type storedUser struct {
	Name        string `json:"name"`
	Role        string `json:"role"`
	Hash        string `json:"password_hash,omitempty"` // bcrypt; "": no password will do
	Certificate bool   `json:"certificate,omitempty"`
}

func (u storedUser) user() User {
	return User{Name: u.Name, Role: u.Role, PasswordHash: u.Hash, Certificate: u.Certificate}
}

// Known is a user as people see it.
type Known struct {
	User
	Configured bool // in the configuration: changed there, not here
}

var (
	errNotOurs = errors.New("it is written in the configuration: change it there, and reload")
	errNoUser  = errors.New("there is none of this name")
)

// readUsers reads the file; one that is not there is empty.
func (b *Broker) readUsers() error {
	if b.config.DataDir == "" {
		return nil
	}
	stored, _, err := atomicfile.ReadJSON[[]storedUser](filepath.Join(b.config.DataDir, userFile), b.log)
	b.stored = stored
	return err
}

// Users lists all users, by name.
func (b *Broker) Users() []Known {
	b.editing.Lock()
	defer b.editing.Unlock()
	var all []Known
	for _, u := range b.settings.users {
		all = append(all, Known{u, true})
	}
	for _, u := range b.stored {
		if !b.isConfigured(u.Name) {
			all = append(all, Known{u.user(), false})
		}
	}
	slices.SortFunc(all, func(a, b Known) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (b *Broker) isConfigured(name string) bool {
	return slices.ContainsFunc(b.settings.users, func(u User) bool { return u.Name == name })
}

// AddUser makes a user. Its errors name the user.
func (b *Broker) AddUser(u User) error {
	return b.edit(u.Name, func(i int) error {
		switch {
		case i >= 0:
			return errors.New("there is one of this name")
		case u.Name == "" || strings.ContainsAny(u.Name, "+#/") || strings.ContainsFunc(u.Name, unicode.IsControl) || strings.TrimSpace(u.Name) != u.Name:
			return errors.New("use no +, # and /, no control character, and no space at its ends")
		case u.PasswordFile != "":
			return errors.New("a password file belongs into the configuration")
		}
		b.stored = append(slices.Clone(b.stored), storedUser{u.Name, u.Role, u.PasswordHash, u.Certificate})
		return nil
	})
}

// RemoveUser ends a user; its connections may do nothing from now on, and end.
func (b *Broker) RemoveUser(name string) error {
	return b.edit(name, func(i int) error {
		if i < 0 {
			return errNoUser
		}
		b.stored = slices.Delete(slices.Clone(b.stored), i, i+1)
		return nil
	})
}

// ChangeUser gives a user another role, password hash or both; "" leaves it.
func (b *Broker) ChangeUser(name, role, hash string) error {
	return b.edit(name, func(i int) error {
		if i < 0 {
			return errNoUser
		}
		b.stored = slices.Clone(b.stored)
		if role != "" {
			b.stored[i].Role = role
		}
		if hash != "" {
			b.stored[i].Hash = hash
		}
		return nil
	})
}

// edit changes the stored users, as a whole or not at all: what the disk does
// not take is not in force.
func (b *Broker) edit(name string, change func(i int) error) error {
	b.editing.Lock()
	defer b.editing.Unlock()
	before := b.stored
	err := func() error {
		if b.isConfigured(name) {
			return errNotOurs
		}
		if err := change(slices.IndexFunc(b.stored, func(u storedUser) bool { return u.Name == name })); err != nil {
			return err
		}
		for _, u := range b.stored {
			if u.Name == name {
				if _, err := u.user().account(); err != nil {
					return err
				}
			}
		}
		next, err := b.newAccounts(b.settings, b.stored)
		if err != nil {
			return err
		}
		if err := b.keepUsers(); err != nil {
			return err
		}
		b.kickChanged(b.access.Swap(next), next)
		b.engine.AccessChanged()
		return nil
	}()
	if err != nil {
		b.stored = before
		return fmt.Errorf("cannot change the user %.80q: %w", name, err)
	}
	b.log.Info("a user was changed", "user", name)
	return nil
}

// keepUsers writes the file twice, so that the copy of before is the same: it
// takes the place of a file that a power cut broke, and must not bring back a
// removed user or an old password.
func (b *Broker) keepUsers() error {
	if b.config.DataDir == "" {
		return nil
	}
	file := filepath.Join(b.config.DataDir, userFile)
	if err := atomicfile.WriteJSON(file, b.stored); err != nil {
		return err
	}
	if err := atomicfile.WriteJSON(file, b.stored); err != nil {
		b.log.Warn("the users are kept, but the copy of the file is that of before", "error", err)
	}
	return nil
}
