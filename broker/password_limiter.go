package broker

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// Wrong passwords are rate limited: by user and address, and by address. A client that
// has to wait gets "server busy", after which every client tries again; Home Assistant
// gives up for good only on a wrong password.
//
// The limits slow down guessing and nothing else:
//   - Attempts from another address do not lock out a user.
//   - The same wrong password again is that of a client with an old password. It
//     learns nothing, so it is refused without being counted.
//   - A user who has logged in from an address is limited by its own wrong
//     attempts only, not by those of others at the address.
//   - A user without wrong attempts who waits for others at its address is the
//     next one to be checked: their attempts do not extend that wait.
const (
	// freeAttemptsPerUser is the number of wrong passwords of a user from an address
	// before the first wait.
	freeAttemptsPerUser = 10
	// freeAttemptsPerAddress is the same for all users from an address.
	freeAttemptsPerAddress = 30
	// firstWait is doubled with each further one, up to longestWait.
	firstWait   = time.Second
	longestWait = time.Minute
	// attemptsExpiry is the time without a further one after which all is forgotten.
	attemptsExpiry = 10 * time.Minute
	// maxAttemptKeys bounds the addresses and users that are remembered.
	maxAttemptKeys = 4096
	// maxWrongPasswords bounds the wrong passwords that are remembered of a user at an
	// address.
	maxWrongPasswords = 8
	// reservation is the time after the wait of an address for the user who is next.
	reservation = time.Minute
	// maxParallelHashes bounds the bcrypt hashes that are computed at once: each costs
	// some 50 ms of a core.
	maxParallelHashes = 2
)

// passwordLimiter counts wrong passwords.
type passwordLimiter struct {
	mu       sync.Mutex
	attempts map[attemptKey]*attempts
	// loggedIn holds the users by the addresses that they logged in from. Only users
	// with a password get in here, so attempts of others evict none.
	loggedIn map[attemptKey]time.Time
}

// attemptKey is a digest of an address and a user, or of an address: a user name has
// up to 65,535 bytes, and anyone may send thousands of them.
type attemptKey [sha256.Size]byte

// wrongPassword is a keyed digest of a wrong password.
type wrongPassword [16]byte

// attempts are the wrong passwords of a user at an address, or of an address.
type attempts struct {
	// wrong counts the distinct wrong passwords; lastWrong is when the last of them
	// was tried.
	wrong     int
	lastWrong time.Time
	// usedAt is when a wrong password was last tried, also one that is not counted.
	usedAt time.Time
	// blockedUntil is when the next password is checked.
	blockedUntil time.Time
	// wrongPasswords are those of a user at an address, last used last.
	wrongPasswords []wrongPassword
	// reservedFor is who is checked first after the wait of an address; others wait
	// for it until reservedUntil.
	reservedFor   attemptKey
	reservedUntil time.Time
}

// userKey is the key of a user at an address.
func userKey(remote, user string) attemptKey {
	return sha256.Sum256([]byte(hostOf(remote) + "\x00u" + user))
}

// addressKey is the key of an address.
func addressKey(remote string) attemptKey { return sha256.Sum256([]byte(hostOf(remote))) }

// blocked reports whether a client has to wait before its password is checked.
func (g *passwordLimiter) blocked(remote, user string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	pair := userKey(remote, user)
	own := g.attempts[pair]
	if own != nil && now.Before(own.blockedUntil) {
		return true
	}
	if _, loggedIn := g.loggedIn[pair]; loggedIn {
		return false
	}
	all := g.attempts[addressKey(remote)]
	if all == nil {
		return false
	}
	reserved := now.Before(all.reservedUntil)
	if now.Before(all.blockedUntil) {
		if withoutFailures := own == nil || now.Sub(own.lastWrong) >= attemptsExpiry; withoutFailures && !reserved {
			all.reservedFor, all.reservedUntil = pair, all.blockedUntil.Add(reservation)
		}
		return true
	}
	if reserved && all.reservedFor != pair {
		return true
	}
	return false
}

// isRepeated reports whether a password was wrong before for this user at this
// address.
func (g *passwordLimiter) isRepeated(remote, user string, password wrongPassword, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.attempts[userKey(remote, user)]
	if t == nil {
		return false
	}
	i := slices.Index(t.wrongPasswords, password)
	if i < 0 {
		return false
	}
	t.wrongPasswords = append(slices.Delete(t.wrongPasswords, i, i+1), password)
	t.usedAt = now
	return true
}

// failed counts a wrong password.
func (g *passwordLimiter) failed(remote, user string, password wrongPassword, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	pair, address := userKey(remote, user), addressKey(remote)
	own := g.count(pair, freeAttemptsPerUser, now)
	if len(own.wrongPasswords) >= maxWrongPasswords {
		own.wrongPasswords = slices.Delete(own.wrongPasswords, 0, 1)
	}
	own.wrongPasswords = append(own.wrongPasswords, password)
	all := g.count(address, freeAttemptsPerAddress, now)
	if all.reservedFor == pair {
		all.reservedUntil = time.Time{}
	}
}

// count adds a wrong password to a user at an address, or an address. The caller holds
// the mutex.
func (g *passwordLimiter) count(key attemptKey, freeAttempts int, now time.Time) *attempts {
	t := g.attempts[key]
	if t == nil {
		g.evict(now)
		t = new(attempts)
		g.attempts[key] = t
	}
	if now.Sub(t.lastWrong) >= attemptsExpiry {
		t.wrong = 0
	}
	t.wrong++
	t.lastWrong, t.usedAt = now, now
	if over := t.wrong - freeAttempts; over >= 0 {
		t.blockedUntil = now.Add(min(firstWait<<min(over, 10), longestWait))
	}
	return t
}

// succeeded records a login, and forgets the counted wrong passwords of the user at
// this address, except those of clients that keep sending an old one.
func (g *passwordLimiter) succeeded(remote, user string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	pair := userKey(remote, user)
	if t := g.attempts[pair]; t != nil {
		t.wrong, t.blockedUntil = 0, time.Time{}
	}
	if t := g.attempts[addressKey(remote)]; t != nil && t.reservedFor == pair {
		t.reservedUntil = time.Time{}
	}
	if g.loggedIn == nil {
		g.loggedIn = make(map[attemptKey]time.Time)
	}
	if _, loggedIn := g.loggedIn[pair]; !loggedIn && len(g.loggedIn) >= maxAttemptKeys {
		var oldest attemptKey
		var at time.Time
		for k, used := range g.loggedIn {
			if at.IsZero() || used.Before(at) {
				oldest, at = k, used
			}
		}
		delete(g.loggedIn, oldest)
	}
	g.loggedIn[pair] = now
}

// evict forgets expired attempts, and arbitrary ones if that does not suffice. The
// caller holds the mutex.
func (g *passwordLimiter) evict(now time.Time) {
	if g.attempts == nil {
		g.attempts = make(map[attemptKey]*attempts)
	}
	if len(g.attempts) < maxAttemptKeys {
		return
	}
	for k, t := range g.attempts {
		if now.Sub(t.usedAt) >= attemptsExpiry {
			delete(g.attempts, k)
		}
	}
	for k := range g.attempts {
		if len(g.attempts) < maxAttemptKeys {
			break
		}
		delete(g.attempts, k)
	}
}

// wrongDigest returns the digest of a wrong password. It depends on the user's right
// password too: after a change of that every password is checked again.
func (b *Broker) wrongDigest(a userRecord, password []byte) (d wrongPassword) {
	secret := sha256.Sum256([]byte(a.password + "\x00" + string(a.hash)))
	mac := hmac.New(sha256.New, b.digestKey[:])
	mac.Write(secret[:])
	mac.Write(password)
	copy(d[:], mac.Sum(nil))
	return d
}
