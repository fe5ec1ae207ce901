package broker

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/topics"
)

// User may connect with a password: the first line of a file, or a bcrypt hash
// of it.
type User struct{ Name, PasswordFile, PasswordHash, Role string }

// accounts are the users as they are checked. They do not change; Reload puts
// others in their place.
type accounts struct {
	byName    map[string]account
	anonymous bool
}

type account struct {
	role     string
	password string // where hash is empty
	hash     []byte
}

func newAccounts(users []User, anonymous bool) (*accounts, error) {
	all := &accounts{byName: make(map[string]account), anonymous: anonymous}
	var faults []error
	for _, u := range users {
		a, err := u.account()
		if _, twice := all.byName[u.Name]; twice && err == nil {
			err = errors.New("there are two of this name")
		}
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

func (u User) account() (account, error) {
	a := account{role: u.Role}
	switch {
	case u.Name == "":
		return a, errors.New("it has no name")
	case !slices.Contains(Roles(), u.Role):
		return a, fmt.Errorf("%q is no role: use one of %s", u.Role, strings.Join(Roles(), ", "))
	case u.Role == RoleDomain && !topics.ValidName(u.Name):
		return a, errors.New("a user of the role domain has the name of its domain, and this is none")
	case (u.PasswordFile == "") == (u.PasswordHash == ""):
		return a, errors.New("it needs one of password_file and password_hash")
	case u.PasswordHash != "":
		if _, err := bcrypt.Cost([]byte(u.PasswordHash)); err != nil {
			return a, errors.New("its password_hash is no bcrypt hash")
		}
		a.hash = []byte(u.PasswordHash)
		return a, nil
	}
	content, err := os.ReadFile(u.PasswordFile)
	if err != nil {
		return a, fmt.Errorf("cannot read its password_file: %w", err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if a.password = strings.TrimSuffix(line, "\r"); a.password == "" {
		return a, fmt.Errorf("its password_file %s has an empty first line: the password belongs there", u.PasswordFile)
	}
	return a, nil
}

// check tells whether a password is the user's.
func (a *accounts) check(user string, password []byte) bool {
	known, ok := a.byName[user]
	switch {
	case !ok:
		return false
	case known.hash != nil:
		return bcrypt.CompareHashAndPassword(known.hash, password) == nil
	}
	return subtle.ConstantTimeCompare([]byte(known.password), password) == 1
}

// gate is how the engine asks who may do what.
type gate struct {
	mqtt.HookBase
	broker *Broker
}

func (g *gate) ID() string { return "access" }

func (g *gate) Provides(b byte) bool { return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck }

// OnConnectAuthenticate lets a client in: one without a user where anonymous
// ones are, one with a user only with its password, wherever it comes from.
func (g *gate) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	user := string(pk.Connect.Username)
	refuse := func(why string) bool {
		if g.broker.refusals.tell(cl.Net.Remote, why, time.Now()) {
			g.broker.log.Warn("connection refused: "+why, "user", user, "client", pk.Connect.ClientIdentifier, "remote", cl.Net.Remote, "listener", cl.Net.Listener)
		}
		return false
	}
	if user != "" && !g.broker.access.Load().check(user, pk.Connect.Password) {
		return refuse("unknown user or wrong password")
	}
	role, ok := g.role(cl.Net.Listener, user)
	if !ok {
		return refuse("this listener is open to others than this machine, so it wants a user (or broker.allow_anonymous)")
	}
	if pk.Connect.WillFlag && !allow(user, role, publish, pk.Connect.WillTopic, g.broker.tree) {
		return refuse("its role may not publish its will")
	}
	return true
}

// OnACLCheck is asked for a publish, for a subscription and for each delivery.
// The last two differ only in that a topic has no wildcards.
func (g *gate) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	user := string(cl.Properties.Username)
	role, ok := g.role(cl.Net.Listener, user)
	if !ok {
		role = "none any more" // a Reload took it
	}
	a := deliver
	switch {
	case write:
		a = publish
	case strings.ContainsAny(topic, "+#") || strings.HasPrefix(topic, "$"):
		a = subscribe
	}
	allowed := ok && allow(user, role, a, topic, g.broker.tree)
	// Over MQTT 3.1.1 there is no way to tell the client: it is disconnected, or
	// believes that it was heard. So the log says it.
	if !allowed && a == publish && g.broker.refusals.tellTopic(cl.Net.Remote, user, topic, time.Now()) {
		g.broker.log.Warn("publish refused: its role may not", "user", user, "role", role, "topic", topic, "client", cl.ID, "remote", cl.Net.Remote)
	}
	return allowed
}

// role is looked up each time, so that a Reload counts at once.
func (g *gate) role(listener, user string) (role string, ok bool) {
	if user == "" {
		return RoleAdmin, g.broker.anonymousAt(listener)
	}
	known, ok := g.broker.access.Load().byName[user]
	return known.role, ok
}
