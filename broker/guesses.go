package broker

import (
	"sync"
	"time"
)

// Wrong passwords are slowed down: by user and address, and by address. Who is
// told to wait is told "server busy", which every client takes for something
// that passes; Home Assistant gives up for good only on a wrong password.
//
// A user is not locked out by what a stranger tries from elsewhere, only from
// the stranger's own address.
const (
	guessesOfPair = 10          // wrong passwords of a user from an address, before the first wait
	guessesOfHost = 30          // of all users from an address
	guessesWait   = time.Second // doubled with each further one, up to
	guessesLonger = time.Minute
	guessesLast   = 10 * time.Minute // without a further one all is forgotten
	guessesKept   = 4096             // addresses and pairs that are remembered
	slowChecks    = 2                // bcrypt hashes that are computed at once: each costs some 50 ms of a core
)

// guesses counts wrong passwords.
type guesses struct {
	mu  sync.Mutex
	of  map[guess]*tries
	now func() time.Time // nil: time.Now
}

type guess struct{ host, user string } // user "" counts all of the host

type tries struct {
	wrong int
	last  time.Time
	until time.Time // not before it is looked at another one
}

// wait tells whether a client has to wait before its password is looked at.
func (g *guesses) wait(remote, user string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.time()
	for _, k := range []guess{{hostOf(remote), user}, {hostOf(remote), ""}} {
		if t := g.of[k]; t != nil && now.Before(t.until) {
			return true
		}
	}
	return false
}

// wrong counts a wrong password.
func (g *guesses) wrong(remote, user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.time()
	for _, k := range []struct {
		guess
		free int
	}{{guess{hostOf(remote), user}, guessesOfPair}, {guess{hostOf(remote), ""}, guessesOfHost}} {
		t := g.of[k.guess]
		if t == nil || now.Sub(t.last) >= guessesLast {
			g.makeRoom(now)
			t = new(tries)
			g.of[k.guess] = t
		}
		t.wrong++
		t.last = now
		if over := t.wrong - k.free; over >= 0 {
			t.until = now.Add(min(guessesWait<<min(over, 10), guessesLonger))
		}
	}
}

// right forgets what a user got wrong before, at this address.
func (g *guesses) right(remote, user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.of, guess{hostOf(remote), user})
}

// makeRoom forgets what is old, and where that is not enough any one.
func (g *guesses) makeRoom(now time.Time) {
	if g.of == nil {
		g.of = make(map[guess]*tries)
	}
	if len(g.of) < guessesKept {
		return
	}
	for k, t := range g.of {
		if now.Sub(t.last) >= guessesLast {
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

func (g *guesses) time() time.Time {
	if g.now != nil {
		return g.now()
	}
	return time.Now()
}
