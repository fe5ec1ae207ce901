package engine

import (
	"sync"
	"time"
)

// A subscription with wildcards is compared with every retained topic, so what
// it costs is what others retain. A user may search searchBurst topics at once,
// without finding one in four of them, and searchRate more each second: a
// tenth of a processor at the most. Beyond that its clients take turns. A
// search that finds what it looks for is bounded by how fast the client reads.
const (
	searchBurst = 1_000_000
	searchRate  = 100_000
)

// search is what a user has searched.
type search struct {
	mu   sync.Mutex
	owed float64 // topics, beyond what was free
	at   time.Duration
}

// pay counts topics that were looked at in vain, and returns how long the user
// is to wait before it goes on.
func (s *search) pay(topics int, now time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed = max(s.owed-(now-s.at).Seconds()*searchRate, 0) + float64(topics)
	s.at = now
	if s.owed <= searchBurst {
		return 0
	}
	return time.Duration((s.owed - searchBurst) / searchRate * float64(time.Second))
}

// rest has the replays of a session wait where its user has searched for long.
// The caller holds the mutex.
func (s *session) rest(inVain int) {
	if inVain <= 0 || s.usage == nil {
		return
	}
	if wait := s.usage.search.pay(inVain, s.e.now()); wait > 0 {
		s.resting = true
		time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.resting = false
			s.wake()
		})
	}
}
