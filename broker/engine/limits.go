package engine

import "github.com/jmbarzee/dominion/broker/limits"

// Limits bound what clients can take. A zero means the default.
type Limits = limits.Limits

// UserLimits bound what all clients of one user may have together.
type UserLimits = limits.UserLimits

// DefaultLimits returns the limits of an engine for which none are set.
func DefaultLimits() Limits { return limits.Default() }

// effectiveLimits returns l with the defaults, and with what a packet identifier can
// count at most.
func effectiveLimits(l Limits) Limits {
	l = l.WithDefaults()
	l.MaxInflight = min(l.MaxInflight, 65_535)
	return l
}
