package engine

import (
	"sync"
	"time"
)

// A subscription with wildcards is compared with every retained topic, so its cost
// depends on what others retain. A user may have searchBurst topics examined at once
// without a match in four, and searchRate more each second, a tenth of a processor at
// most. Beyond that the replays of its clients wait. A search with matches is bounded
// by how fast the client reads.
const (
	searchBurst = 1_000_000
	searchRate  = 100_000
)

// searchQuota is a leaky bucket of the topics examined for a user.
type searchQuota struct {
	mu sync.Mutex
	// debt is the number of topics examined beyond what has accrued.
	debt      float64
	updatedAt time.Duration
}

// charge adds topics that were examined without a match, and returns how long the
// user's replays must wait.
func (s *searchQuota) charge(topics int, now time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.debt = max(s.debt-(now-s.updatedAt).Seconds()*searchRate, 0) + float64(topics)
	s.updatedAt = now
	if s.debt <= searchBurst {
		return 0
	}
	return time.Duration((s.debt - searchBurst) / searchRate * float64(time.Second))
}
