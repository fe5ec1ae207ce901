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

// authenticate admits a client or refuses it: one without a user where anonymous
// clients are admitted, one with a user only with its password or a certificate in its
// name, wherever it connects from.
func (b *Broker) authenticate(c engine.Client, user string, _ bool, password []byte) error {
	err := b.identify(c, user, password)
	if err == nil {
		return nil
	}
	if b.logLimit.allow(c.Remote, err.Error(), time.Now()) {
		b.log.Warn("connection refused: "+err.Error(), "user", truncate(user), "client", truncate(c.ID), "remote", c.Remote, "listener", c.Listener)
	}
	return err
}

// refusedError is a refusal: answer is what the client gets, reason what is logged.
type refusedError struct {
	answer error
	reason string
}

func (t refusedError) Error() string { return t.reason }
func (t refusedError) Unwrap() error { return t.answer }

// identify checks the user of a client, and then whether that user may use the client
// identifier.
func (b *Broker) identify(c engine.Client, user string, password []byte) error {
	if c.Applicant {
		return b.admitApplicant(c)
	}
	if user != "" {
		if err := b.authenticateUser(c, user, password); err != nil {
			return err
		}
	}
	role := b.role(c.Listener, user)
	if role == "" && c.Listener == forwardedHTTP {
		return refusedError{engine.ErrNotAllowed, "it was forwarded by a proxy, so it needs a user"}
	}
	if role == "" {
		return refusedError{engine.ErrNotAllowed, "other machines reach this listener, so it needs a user (or broker.allow_anonymous)"}
	}
	return b.claimClientID(c, user, role)
}

// claimClientID decides whether a user may use a client identifier, which is the user's
// from then on.
func (b *Broker) claimClientID(c engine.Client, user, role string) error {
	switch {
	case slices.Contains(b.config.ReservedIDs, c.ID):
		if c.Listener != local {
			return refusedError{engine.ErrClientIDTaken, "the client id belongs to a bridge of the hub"}
		}
		return nil
	case strings.HasPrefix(c.ID, agentIDPrefix) && role != RoleDomain && role != RoleAdmin:
		return refusedError{engine.ErrClientIDTaken, "client ids that begin with " + agentIDPrefix + " are reserved for agents, users of the role domain"}
	case user != "" && role != RoleAdmin && b.anonymousConnected(c.ID) && !b.isOwnAgent(c, user):
		return refusedError{engine.ErrClientIDTaken, "a client without a user, which is an admin, is connected with this client id"}
	case c.Assigned:
		return nil // random, and not used again
	case strings.HasPrefix(c.ID, agentIDPrefix):
		if decided, err := b.admitAgent(c, user, role); decided {
			return err
		}
	}
	if owner, ok := b.clientIDs.claim(c.ID, user, time.Now(), b.userExists, b.engine.UserOf); !ok {
		return refusedError{engine.ErrClientIDTaken, "the client id belongs to the user " + owner + " (dominionctl clients forget frees it)"}
	}
	return nil
}

// authenticateUser returns an error unless the client proves that it is the user.
func (b *Broker) authenticateUser(c engine.Client, user string, password []byte) error {
	if c.CertificateUse != "" {
		return b.authenticateIssued(c, user)
	}
	table := b.access.Load()
	record, ok := table.byName[user]
	if c.Certificate != "" {
		// A certificate names its user: it is not for logging in as another one.
		if c.Certificate == user && ok && (record.certificate || c.Listener == local) {
			return nil
		}
		if c.Certificate != user {
			return refusedError{engine.ErrNotAllowed, "its certificate belongs to another user: " + c.Certificate}
		}
	}
	sum := b.wrongDigest(record, password)
	if b.passwords.isRepeated(c.Remote, user, sum, time.Now()) {
		return engine.ErrBadCredentials
	}
	if b.passwords.blocked(c.Remote, user, time.Now()) {
		return refusedError{engine.ErrBusy, "too many wrong passwords from its address: it must wait"}
	}
	matches, err := b.checkPassword(c, user, record, password)
	if err != nil {
		return err
	}
	if !ok || !matches {
		if !b.passwords.isRepeated(c.Remote, user, sum, time.Now()) { // of parallel attempts with the same password one is counted
			b.passwords.failed(c.Remote, user, sum, time.Now())
		}
		return engine.ErrBadCredentials
	}
	b.passwords.succeeded(c.Remote, user, time.Now())
	return nil
}

// ErrBusy is returned if a client must wait, because too many wrong passwords came
// from its address.
var ErrBusy = engine.ErrBusy

// Login returns the role of a user who logs in by password outside MQTT, as over HTTP.
// Wrong passwords are rate limited and logged as those of MQTT clients.
func (b *Broker) Login(remote, listener, user string, password []byte) (role string, err error) {
	if user == "" {
		return "", engine.ErrBadCredentials
	}
	if err := b.authenticateUser(engine.Client{Remote: remote, Listener: listener}, user, password); err != nil {
		if b.logLimit.allow(remote, err.Error(), time.Now()) {
			b.log.Warn("login refused: "+err.Error(), "user", truncate(user), "remote", remote, "listener", listener)
		}
		return "", err
	}
	return b.access.Load().byName[user].role, nil
}

// maxPasswordBytes is the length that bcrypt uses: it would accept the beginning of a
// longer password for the whole.
const maxPasswordBytes = 72

// digest represents a password in memory: it is useless without the key of this run.
type digest [sha256.Size]byte

// noHash is compared with for an unknown user, so that the answer takes as long as for
// a known one.
var noHash = []byte("$2a$10$DnEL4IBCRCCu22LPWSUJWuLgnkVk5fOCNd4d5h8nnxOgpQ8ymPYd6")

// checkPassword reports whether a password is the user's. A bounded number of hashes
// is computed at once, so that clients that send passwords do not use up the machine;
// if too many wait, the error is ErrBusy.
func (b *Broker) checkPassword(c engine.Client, user string, a userRecord, password []byte) (bool, error) {
	if a.hash == nil && a.password != "" {
		return subtle.ConstantTimeCompare([]byte(a.password), password) == 1, nil
	}
	mac := hmac.New(sha256.New, b.digestKey[:])
	mac.Write(password)
	sum := digest(mac.Sum(nil))
	if a.verified != nil {
		if verified := a.verified.Load(); verified != nil && hmac.Equal(verified[:], sum[:]) {
			return true, nil
		}
	}
	const maxWait = 3 * time.Second // clients wait for CONNACK for 5 s and more
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case b.hashSlots <- struct{}{}:
		defer func() { <-b.hashSlots }()
	case <-timer.C:
		return false, engine.ErrBusy
	}
	if b.passwords.blocked(c.Remote, user, time.Now()) { // parallel attempts may have failed meanwhile
		return false, engine.ErrBusy
	}
	hash := a.hash
	if hash == nil {
		hash = noHash
	}
	matches := bcrypt.CompareHashAndPassword(hash, password) == nil && a.hash != nil && len(password) <= maxPasswordBytes
	if matches && a.verified != nil {
		a.verified.Store(&sum)
	}
	return matches, nil
}

// newKey returns a random key.
func newKey() (key [32]byte) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}

// userExists reports whether there is a user of a name.
func (b *Broker) userExists(name string) bool {
	_, ok := b.access.Load().byName[name]
	return ok || b.issuedRole(name) != ""
}

// role returns the role of a user now, so that a Reload has effect at once. "": it may
// not be connected, as a removed user, or an anonymous client where those are no
// longer admitted.
func (b *Broker) role(listener, user string) string {
	if user == "" {
		if b.anonymousAt(listener) {
			return RoleAdmin
		}
		return ""
	}
	if record, configured := b.access.Load().byName[user]; configured {
		return record.role
	}
	return b.issuedRole(user)
}

// anonymousConnected reports whether a client without a user is connected with an
// identifier. That belongs to no user, but the client is an admin, and no other user
// may disconnect an admin.
func (b *Broker) anonymousConnected(id string) bool {
	c, connected := b.engine.Connected(id)
	return connected && c.User == "" && b.role(c.Listener, "") != ""
}
