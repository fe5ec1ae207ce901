package broker

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// userFile is in the data directory and holds the users that were added at run time,
// besides those of the configuration, which take precedence. It contains password
// hashes only.
const userFile = "users.json"

// storedUser is a user in that file.
type storedUser struct {
	Name string `json:"name"`
	Role string `json:"role"`
	// Hash is of bcrypt; "": no password is accepted.
	Hash        string `json:"password_hash,omitempty"`
	Certificate bool   `json:"certificate,omitempty"`
}

// toUser returns the user in the form of the configuration.
func (u storedUser) toUser() User {
	return User{Name: u.Name, Role: u.Role, PasswordHash: u.Hash, Certificate: u.Certificate}
}

// UserEntry is a user in a listing.
type UserEntry struct {
	User
	// Configured is set for a user of the configuration, which is changed there.
	Configured bool
}

var (
	errConfiguredUser = errors.New("it is defined in the configuration: change it there, and reload")
	errNoUser         = errors.New("there is no user of this name")
)

// readUsers reads the file. A missing one is empty.
func (b *Broker) readUsers() error {
	if b.config.DataDir == "" {
		return nil
	}
	stored, _, err := atomicfile.ReadJSON[[]storedUser](filepath.Join(b.config.DataDir, userFile), b.log)
	b.storedUsers = stored
	return err
}

// Users returns all users, ordered by name.
func (b *Broker) Users() []UserEntry {
	b.settingsMu.Lock()
	defer b.settingsMu.Unlock()
	var all []UserEntry
	for _, u := range b.settings.users {
		all = append(all, UserEntry{u, true})
	}
	for _, u := range b.storedUsers {
		if !b.isConfigured(u.Name) {
			all = append(all, UserEntry{u.toUser(), false})
		}
	}
	slices.SortFunc(all, func(a, b UserEntry) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// isConfigured reports whether a user is defined in the configuration. The caller
// holds settingsMu.
func (b *Broker) isConfigured(name string) bool {
	return slices.ContainsFunc(b.settings.users, func(u User) bool { return u.Name == name })
}

// AddUser adds a user. An error names the user.
func (b *Broker) AddUser(u User) error {
	return b.editUsers(u.Name, func(i int) error {
		switch {
		case i >= 0:
			return errors.New("there is a user of this name already")
		case u.Name == "" || strings.ContainsAny(u.Name, "+#/") || strings.ContainsFunc(u.Name, unicode.IsControl) || strings.TrimSpace(u.Name) != u.Name:
			return errors.New("use no +, # and /, no control character, and no space at its ends")
		case u.PasswordFile != "":
			return errors.New("a password file must be set in the configuration")
		}
		b.storedUsers = append(slices.Clone(b.storedUsers), storedUser{u.Name, u.Role, u.PasswordHash, u.Certificate})
		return nil
	})
}

// RemoveUser removes a user. Its connections lose all rights at once, and end.
func (b *Broker) RemoveUser(name string) error {
	return b.editUsers(name, func(i int) error {
		if i < 0 {
			return errNoUser
		}
		b.storedUsers = slices.Delete(slices.Clone(b.storedUsers), i, i+1)
		return nil
	})
}

// ChangeUser changes the role of a user, its password hash or both; "": unchanged.
func (b *Broker) ChangeUser(name, role, hash string) error {
	return b.editUsers(name, func(i int) error {
		if i < 0 {
			return errNoUser
		}
		b.storedUsers = slices.Clone(b.storedUsers)
		if role != "" {
			b.storedUsers[i].Role = role
		}
		if hash != "" {
			b.storedUsers[i].Hash = hash
		}
		return nil
	})
}

// editUsers changes the stored users completely or not at all: a change that cannot be
// written to disk has no effect.
func (b *Broker) editUsers(name string, change func(i int) error) error {
	b.settingsMu.Lock()
	defer b.settingsMu.Unlock()
	before := b.storedUsers
	err := func() error {
		if b.isConfigured(name) {
			return errConfiguredUser
		}
		if err := change(slices.IndexFunc(b.storedUsers, func(u storedUser) bool { return u.Name == name })); err != nil {
			return err
		}
		for _, u := range b.storedUsers {
			if u.Name == name {
				if _, err := u.toUser().record(); err != nil {
					return err
				}
			}
		}
		next, err := b.newAccounts(b.settings, b.storedUsers)
		if err != nil {
			return err
		}
		if err := b.writeUsers(); err != nil {
			return err
		}
		b.disconnectChanged(b.access.Swap(next), next)
		b.engine.AccessChanged()
		return nil
	}()
	if err != nil {
		b.storedUsers = before
		return fmt.Errorf("cannot change the user %.80q: %w", name, err)
	}
	b.log.Info("a user was changed", "user", name)
	return nil
}

// writeUsers writes the file twice, so that its backup has the same content: the
// backup replaces a file that a power cut damaged, and must not restore a removed user
// or an old password.
func (b *Broker) writeUsers() error {
	if b.config.DataDir == "" {
		return nil
	}
	file := filepath.Join(b.config.DataDir, userFile)
	if err := atomicfile.WriteJSON(file, b.storedUsers); err != nil {
		return err
	}
	if err := atomicfile.WriteJSON(file, b.storedUsers); err != nil {
		b.log.Warn("the users are written, but the backup of the file has the previous ones", "error", err)
	}
	return nil
}
