package client

import "time"

// Backoff returns how long to wait before connecting again: 100 ms after the first
// failure (attempt 0), doubling to 2 s, and up to half of that less at random, so that
// not all clients of a home return at the same moment. random is rand.N, or its
// replacement in a test.
func Backoff(attempt int, random func(limit time.Duration) time.Duration) time.Duration {
	const first, longest = 100 * time.Millisecond, 2 * time.Second
	d := longest
	if attempt < 5 {
		d = min(longest, first<<max(attempt, 0))
	}
	return d - random(d/2)
}
