package broker

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// Wrong passwords are rate limited: by user and address, and by address. A
// client that has to wait gets "server busy", which every client retries; Home
// Assistant gives up for good only on a wrong password.
//
// The limits slow down guessing and nothing else:
//   - A user is not locked out by tries from another address.
//   - The same wrong password again is a client with an old password. It learns
//     nothing, so it is refused without being counted.
//   - A user who has logged in from an address is limited by the wrong tries of
//     that user alone, not by those of others at the address.
//   - A user without wrong tries who waits for others at its address is the next
//     one to be checked: their tries do not extend that wait.
const (
	guessesOfPair   = 10          // wrong passwords of a user from an address, before the first wait
	guessesOfHost   = 30          // of all users from an address
	guessesWait     = time.Second // doubled with each further one, up to
	guessesLonger   = time.Minute
	guessesLast     = 10 * time.Minute // without a further one all is forgotten
	guessesKept     = 4096             // addresses and pairs that are remembered
	guessesStale    = 8                // wrong passwords that are remembered of a pair
	guessesReserved = time.Minute      // after a wait of an address, for the user who is next
	slowChecks      = 2                // bcrypt hashes that are computed at once: each costs some 50 ms of a core
)

// guesses counts wrong passwords.
type guesses struct {
	mu sync.Mutex
	of map[guess]*tries
	// known holds the users by the addresses that they logged in from. Only
	// who has a password gets in here, so tries of others evict nobody.
	known map[guess]time.Time
}

// guess is a digest of an address and a user, or of an address alone: a user
// name has up to 65,535 bytes, and anybody may send thousands of them.
type guess [sha256.Size]byte

// wrongPassword is a keyed digest of a wrong password.
type wrongPassword [16]byte

// tries are the wrong passwords of a pair or of an address.
type tries struct {
	// wrong counts the distinct wrong passwords, last is when the last of them
	// was tried.
	wrong int
	last  time.Time
	// used is when a wrong password was tried last, also one that is not counted.
	used time.Time
	// until is when the next password is checked.
	until time.Time
	// stale are the wrong passwords of a pair, last used last.
	stale []wrongPassword
	// next is the pair that is checked first after the wait of an address;
	// others wait for it until held.
	next guess
	held time.Time
}

func pairOf(remote, user string) guess { return sha256.Sum256([]byte(hostOf(remote) + "\x00u" + user)) }
func addressOf(remote string) guess    { return sha256.Sum256([]byte(hostOf(remote))) }

// wait reports whether a client has to wait before its password is checked.
func (g *guesses) wait(remote, user string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	pair := pairOf(remote, user)
	own := g.of[pair]
	if own != nil && now.Before(own.until) {
		return true
	}
	if _, known := g.known[pair]; known {
		return false
	}
	all := g.of[addressOf(remote)]
	if all == nil {
		return false
	}
	reserved := now.Before(all.held)
	if now.Before(all.until) {
		if innocent := own == nil || now.Sub(own.last) >= guessesLast; innocent && !reserved {
			all.next, all.held = pair, all.until.Add(guessesReserved)
		}
		return true
	}
	if reserved && all.next != pair {
		return true
	}
	return false
}

// repeated reports whether a password is one that was wrong before for this user
// at this address.
func (g *guesses) repeated(remote, user string, password wrongPassword, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.of[pairOf(remote, user)]
	if t == nil {
		return false
	}
	i := slices.Index(t.stale, password)
	if i < 0 {
		return false
	}
	t.stale = append(slices.Delete(t.stale, i, i+1), password)
	t.used = now
	return true
}

// wrong counts a wrong password.
func (g *guesses) wrong(remote, user string, password wrongPassword, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	pair, address := pairOf(remote, user), addressOf(remote)
	own := g.count(pair, guessesOfPair, now)
	if len(own.stale) >= guessesStale {
		own.stale = slices.Delete(own.stale, 0, 1)
	}
	own.stale = append(own.stale, password)
	all := g.count(address, guessesOfHost, now)
	if all.next == pair {
		all.held = time.Time{}
	}
}

// count adds a wrong password to a pair or an address. The caller holds the
// mutex.
func (g *guesses) count(key guess, free int, now time.Time) *tries {
	t := g.of[key]
	if t == nil {
		g.makeRoom(now)
		t = new(tries)
		g.of[key] = t
	}
	if now.Sub(t.last) >= guessesLast {
		t.wrong = 0
	}
	t.wrong++
	t.last, t.used = now, now
	if over := t.wrong - free; over >= 0 {
		t.until = now.Add(min(guessesWait<<min(over, 10), guessesLonger))
	}
	return t
}

// right notes a login, and forgets the wrong passwords that the user tried at
// this address, but those of clients that go on sending an old one.
func (g *guesses) right(remote, user string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	pair := pairOf(remote, user)
	if t := g.of[pair]; t != nil {
		t.wrong, t.until = 0, time.Time{}
	}
	if t := g.of[addressOf(remote)]; t != nil && t.next == pair {
		t.held = time.Time{}
	}
	if g.known == nil {
		g.known = make(map[guess]time.Time)
	}
	if _, known := g.known[pair]; !known && len(g.known) >= guessesKept {
		var oldest guess
		var at time.Time
		for k, used := range g.known {
			if at.IsZero() || used.Before(at) {
				oldest, at = k, used
			}
		}
		delete(g.known, oldest)
	}
	g.known[pair] = now
}

// makeRoom forgets what is old, and where that is not enough any one. The
// caller holds the mutex.
func (g *guesses) makeRoom(now time.Time) {
	if g.of == nil {
		g.of = make(map[guess]*tries)
	}
	if len(g.of) < guessesKept {
		return
	}
	for k, t := range g.of {
		if now.Sub(t.used) >= guessesLast {
			delete(g.of, k)
		}
	}
	for k := range g.of {
		if len(g.of) < guessesKept {
			break
		}
		delete(g.of, k)
	}
}

// wrongDigest returns what a wrong password is remembered by. It depends on the
// account's password too: after that was changed every password is checked
// again.
func (b *Broker) wrongDigest(a account, password []byte) (d wrongPassword) {
	secret := sha256.Sum256([]byte(a.password + "\x00" + string(a.hash)))
	mac := hmac.New(sha256.New, b.key[:])
	mac.Write(secret[:])
	mac.Write(password)
	copy(d[:], mac.Sum(nil))
	return d
}
