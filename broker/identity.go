package broker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker/engine"
)

// authenticate lets a client in: one without a user where anonymous ones are,
// one with a user only with its password or a certificate in its name, wherever
// it comes from.
func (b *Broker) authenticate(c engine.Client, user string, _ bool, password []byte) error {
	err := b.identify(c, user, password)
	if err == nil {
		return nil
	}
	if b.refusals.tell(c.Remote, err.Error(), time.Now()) {
		b.log.Warn("connection refused: "+err.Error(), "user", short(user), "client", short(c.ID), "remote", c.Remote, "listener", c.Listener)
	}
	return err
}

// turnedAway is a refusal: what the client is told, and what the log says.
type turnedAway struct {
	answer error
	why    string
}

func (t turnedAway) Error() string { return t.why }
func (t turnedAway) Unwrap() error { return t.answer }

func (b *Broker) identify(c engine.Client, user string, password []byte) error {
	if user != "" {
		if err := b.prove(c, user, password); err != nil {
			return err
		}
	}
	role := b.role(c.Listener, user)
	switch {
	case role == "" && c.Listener == forwardedHTTP:
		return turnedAway{engine.ErrNotAllowed, "a proxy forwarded it, so it wants a user"}
	case role == "":
		return turnedAway{engine.ErrNotAllowed, "this listener is open to others than this machine, so it wants a user (or broker.allow_anonymous)"}
	case slices.Contains(b.config.OwnIDs, c.ID):
		if c.Listener != local {
			return turnedAway{engine.ErrClientIDTaken, "the identifier is that of a bridge of the hub's own"}
		}
		return nil
	case strings.HasPrefix(c.ID, agentID) && role != RoleDomain && role != RoleAdmin:
		return turnedAway{engine.ErrClientIDTaken, "identifiers that begin with " + agentID + " are for agents, users of the role domain"}
	case user != "" && role != RoleAdmin && b.anonymousHas(c.ID):
		return turnedAway{engine.ErrClientIDTaken, "a client without a user, which is an admin, is connected by this identifier"}
	case c.Assigned:
		return nil // nobody can know it, and nobody will use it again
	case strings.HasPrefix(c.ID, agentID) && role == RoleDomain:
		if decided, err := b.admitAgent(c, user); decided {
			return err
		}
	}
	if owner, ok := b.owners.take(c.ID, user, time.Now(), b.isUser, b.engine.UserOf); !ok {
		return turnedAway{engine.ErrClientIDTaken, "the client id belongs to the user " + owner + " (dominionctl clients forget frees it)"}
	}
	return nil
}

// prove tells whether a client is the user that it says it is.
func (b *Broker) prove(c engine.Client, user string, password []byte) error {
	now := b.access.Load()
	known, ok := now.byName[user]
	if c.Certificate != "" {
		// A certificate names its user: it is not for logging in as another one.
		if c.Certificate == user && ok && (known.certificate || c.Listener == local) {
			return nil
		}
		if c.Certificate != user {
			return turnedAway{engine.ErrNotAllowed, "its certificate is of another user: " + c.Certificate}
		}
	}
	sum := b.wrongDigest(known, password)
	if b.guesses.repeated(c.Remote, user, sum, time.Now()) {
		return engine.ErrBadCredentials
	}
	if b.guesses.wait(c.Remote, user, time.Now()) {
		return turnedAway{engine.ErrBusy, "too many wrong passwords from there: it has to wait"}
	}
	right, err := b.check(c, user, known, password)
	if err != nil {
		return err
	}
	if !ok || !right {
		if !b.guesses.repeated(c.Remote, user, sum, time.Now()) { // of many at once the first was counted
			b.guesses.wrong(c.Remote, user, sum, time.Now())
		}
		return engine.ErrBadCredentials
	}
	b.guesses.right(c.Remote, user, time.Now())
	return nil
}

// ErrBusy says that a client has to wait, as too many wrong passwords came from
// where it is.
var ErrBusy = engine.ErrBusy

// Login returns the role of a user who proves itself by password outside MQTT,
// as over HTTP. Wrong passwords are rate limited and logged as those of clients.
func (b *Broker) Login(remote, listener, user string, password []byte) (role string, err error) {
	if user == "" {
		return "", engine.ErrBadCredentials
	}
	if err := b.prove(engine.Client{Remote: remote, Listener: listener}, user, password); err != nil {
		if b.refusals.tell(remote, err.Error(), time.Now()) {
			b.log.Warn("login refused: "+err.Error(), "user", short(user), "remote", remote, "listener", listener)
		}
		return "", err
	}
	return b.access.Load().byName[user].role, nil
}

// longestPassword is what bcrypt looks at: of one that is longer it would take
// the beginning for the whole.
const longestPassword = 72

// digest stands for a password in memory: useless without the key of this run.
type digest [sha256.Size]byte

// noHash is compared with where there is no such user, so that an answer takes
// as long as that to one who is.
var noHash = []byte("$2a$10$DnEL4IBCRCCu22LPWSUJWuLgnkVk5fOCNd4d5h8nnxOgpQ8ymPYd6")

// check tells whether a password is the account's. Hashes are computed a few at
// a time: whoever sends passwords is not to take the machine. With too many
// waiting the broker is busy.
func (b *Broker) check(c engine.Client, user string, a account, password []byte) (bool, error) {
	if a.hash == nil && a.password != "" {
		return subtle.ConstantTimeCompare([]byte(a.password), password) == 1, nil
	}
	mac := hmac.New(sha256.New, b.key[:])
	mac.Write(password)
	sum := digest(mac.Sum(nil))
	if a.proved != nil {
		if was := a.proved.Load(); was != nil && hmac.Equal(was[:], sum[:]) {
			return true, nil
		}
	}
	const patience = 3 * time.Second // a client waits 5 s for CONNACK and more
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case b.hashing <- struct{}{}:
		defer func() { <-b.hashing }()
	case <-timer.C:
		return false, engine.ErrBusy
	}
	if b.guesses.wait(c.Remote, user, time.Now()) { // of many at once the first ones were wrong meanwhile
		return false, engine.ErrBusy
	}
	hash := a.hash
	if hash == nil {
		hash = noHash
	}
	right := bcrypt.CompareHashAndPassword(hash, password) == nil && a.hash != nil && len(password) <= longestPassword
	if right && a.proved != nil {
		a.proved.Store(&sum)
	}
	return right, nil
}

func newKey() (key [32]byte) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}

func (b *Broker) isUser(name string) bool {
	_, ok := b.access.Load().byName[name]
	return ok
}

// role is looked up each time, so that a Reload counts at once. "" is nobody's
// who may be here: a user that was removed, one without a user where that is
// not allowed any more.
func (b *Broker) role(listener, user string) string {
	if user == "" {
		if b.anonymousAt(listener) {
			return RoleAdmin
		}
		return ""
	}
	return b.access.Load().byName[user].role
}

// anonymousHas tells whether somebody without a user is connected by an
// identifier. It belongs to nobody, but who has no user is an admin, and no
// other is to push an admin out.
func (b *Broker) anonymousHas(id string) bool {
	c, connected := b.engine.Connected(id)
	return connected && c.User == "" && b.role(c.Listener, "") != ""
}
