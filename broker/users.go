package broker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/passwordfile"
	"github.com/jmbarzee/dominion/topics"
)

// User may connect with a password, the first line of a file or a bcrypt hash
// of it, or with a certificate in its name; one of the three must be there.
type User struct {
	Name, PasswordFile, PasswordHash, Role string
	Certificate                            bool // a certificate of client_ca_file with this CN will do
}

// accounts are the users as they are checked. They do not change; Reload puts
// others in their place.
type accounts struct {
	byName    map[string]account
	anonymous bool
	policy    *access.Policy
}

type account struct {
	role        string
	password    string // where hash is empty; "": none will do
	hash        []byte
	certificate bool
	// proved remembers the last password that the hash was found to be of, as a
	// digest: a thousand agents that connect again are not a thousand bcrypts.
	proved *atomic.Pointer[digest]
}

// settings are what the configuration says of access.
type settings struct {
	users     []User
	anonymous bool
	rules     []access.Rule
}

// newAccounts makes the accounts of the configuration's users and of those
// that were made at run time. A configuration that is wrong is refused; a stored
// user that is none (somebody edited the file) is left out, and said.
func (b *Broker) newAccounts(s settings, stored []storedUser) (*accounts, error) {
	all := &accounts{byName: make(map[string]account), anonymous: s.anonymous}
	var faults []error
	policy, err := access.New(b.tree.Prefix(), b.config.DiscoveryPrefix, s.rules)
	if err != nil {
		faults = append(faults, err)
	}
	all.policy = policy
	for _, u := range stored {
		if a, err := u.user().account(); err != nil {
			b.log.Error("a stored user is left out", "user", u.Name, "error", err)
		} else {
			all.byName[u.Name] = a
		}
	}
	named := make(map[string]bool, len(s.users))
	for _, u := range s.users {
		a, err := u.account()
		if named[u.Name] && err == nil {
			err = errors.New("there are two of this name")
		}
		named[u.Name] = true
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

// maxCost bounds what one wrong password costs: some 2 s of a core of a PC.
const maxCost = 15

func (u User) account() (account, error) {
	a := account{role: u.Role, certificate: u.Certificate, proved: new(atomic.Pointer[digest])}
	switch {
	case u.Name == "":
		return a, errors.New("it has no name")
	case !slices.Contains(access.Roles(), u.Role):
		return a, fmt.Errorf("%q is no role: use one of %s", u.Role, strings.Join(access.Roles(), ", "))
	case u.Role == RoleDomain && !topics.ValidName(u.Name):
		return a, errors.New("a user of the role domain has the name of its domain, and this is none")
	case u.PasswordFile != "" && u.PasswordHash != "", u.PasswordFile == "" && u.PasswordHash == "" && !u.Certificate:
		return a, errors.New("it needs one of password_file and password_hash, or certificate = true")
	case u.PasswordFile == "" && u.PasswordHash == "":
		return a, nil
	case u.PasswordHash != "":
		switch cost, err := bcrypt.Cost([]byte(u.PasswordHash)); {
		case err != nil:
			return a, errors.New("its password_hash is no bcrypt hash")
		case cost > maxCost:
			return a, fmt.Errorf("its password_hash has cost %d: more than %d would keep this machine busy with wrong passwords", cost, maxCost)
		}
		a.hash = []byte(u.PasswordHash)
		return a, nil
	}
	var err error
	if a.password, err = passwordfile.Read(u.PasswordFile); err != nil {
		return a, fmt.Errorf("cannot read its password_file: %w", err)
	}
	return a, nil
}

// ended says why a client was hung up on, as often as refusals allows.
func (b *Broker) ended(client, remote, why string) {
	if b.refusals.tell(remote, why, time.Now()) {
		b.log.Info("connection ended by the broker: "+why, "client", short(client), "remote", remote)
	}
}

// allow is asked for each publish, subscription and delivery, for wills,
// replays and sessions that are resumed.
func (b *Broker) allow(c engine.Client, a engine.Action, topic string) bool {
	d := b.decide(c, a, topic)
	// Over MQTT 3.1.1 there is no way to tell the client: it is disconnected, or
	// believes that it was heard. So the log says it.
	if !d.Allowed && a == engine.ActionPublish && b.refusals.tellTopic(c.Remote, c.User, topic, time.Now()) {
		b.log.Warn("publish refused", "user", c.User, "by", d.By, "topic", short(topic), "client", short(c.ID), "remote", c.Remote)
	}
	return d.Allowed
}
