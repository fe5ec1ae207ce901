package broker

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/broker/engine"
)

// User may connect with a password, the first line of a file or a bcrypt hash of it,
// or with a certificate in its name; one of the three is required.
type User struct {
	Name, PasswordFile, PasswordHash, Role string
	// Certificate accepts a certificate of client_ca_file with this CN.
	Certificate bool
}

// userTable holds the users as they are checked. It is immutable; Reload replaces it.
type userTable struct {
	byName    map[string]userRecord
	anonymous bool
	policy    *access.Policy
}

// userRecord is a user as it is checked.
type userRecord struct {
	role string
	// password applies if hash is empty; "": no password is accepted.
	password    string
	hash        []byte
	certificate bool
	// verified is a digest of the last password that matched the hash: a thousand
	// agents that reconnect do not take a thousand bcrypt computations.
	verified *atomic.Pointer[digest]
}

// accessSettings are the settings of the configuration that concern access.
type accessSettings struct {
	users     []User
	anonymous bool
	rules     []access.Rule
}

// newAccounts returns the table of the configuration's users and of those that were
// added at run time. An invalid configuration is an error; an invalid stored user (the
// file was edited) is logged and left out.
func (b *Broker) newAccounts(s accessSettings, stored []storedUser) (*userTable, error) {
	all := &userTable{byName: make(map[string]userRecord), anonymous: s.anonymous}
	var faults []error
	policy, err := access.New(b.tree.Prefix(), b.config.DiscoveryPrefix, s.rules)
	if err != nil {
		faults = append(faults, err)
	}
	all.policy = policy
	for _, u := range stored {
		if a, err := u.toUser().record(); err != nil {
			b.log.Error("a stored user is left out", "user", u.Name, "error", err)
		} else {
			all.byName[u.Name] = a
		}
	}
	names := make(map[string]bool, len(s.users))
	for _, u := range s.users {
		a, err := u.record()
		if names[u.Name] && err == nil {
			err = errors.New("there are two users of this name")
		}
		names[u.Name] = true
		if err != nil {
			faults = append(faults, fmt.Errorf("cannot use broker user %q: %w", u.Name, err))
		}
		all.byName[u.Name] = a
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return all, nil
}

// allow is Options.Allow of the engine. In MQTT 3.1.1 a client cannot be told that its
// publish was denied, so it is logged.
func (b *Broker) allow(c engine.Client, a engine.Action, topic string) bool {
	d := b.decide(c, a, topic)
	// MQTT 3.1.1 cannot report the denial to the client, so the log does, as far
	// as logLimit allows.
	if !d.Allowed && a == engine.ActionPublish && b.logLimit.allowTopic(c.Remote, c.User, topic, time.Now()) {
		b.log.Warn("publish refused", "user", c.User, "by", d.By, "topic", truncate(topic), "client", truncate(c.ID), "remote", c.Remote)
	}
	return d.Allowed
}

// equals reports whether a client that was admitted with one record would be admitted
// in the same way with the other.
func (a userRecord) equals(b userRecord) bool {
	return a.role == b.role && a.password == b.password && string(a.hash) == string(b.hash) && a.certificate == b.certificate
}
