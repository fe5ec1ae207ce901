package supervisor

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// crashLimit crashes within crashWindow make an instance failed, and it is started
	// again after failedRetry.
	crashLimit  = 10
	crashWindow = 10 * time.Minute
	failedRetry = 5 * time.Minute
	// noStartDelay is the least time between tries of what could not even be started.
	noStartDelay = time.Second
)

// delay returns how long to wait before the next try, and counts it.
func (in *instance) delay(atLeast time.Duration) time.Duration {
	d := max(in.Spec.Restart.Delay.Duration(), atLeast)
	limit := max(in.Spec.Restart.MaxDelay.Duration(), d)
	for range in.Tries {
		if d *= 2; d >= limit || d == 0 {
			d = min(d, limit)
			break
		}
	}
	in.Tries++
	spread := int64(d / 5) // ±10 %: services that fell together do not rise together
	if spread == 0 {
		return d
	}
	return d - d/10 + time.Duration(rand.New(&in.Jitter).Int64N(spread+1))
}

// recordCrash records a failure and reports whether there were too many.
func (in *instance) recordCrash(now time.Time) bool {
	if !in.Run.Ready.IsZero() && now.Sub(in.Run.Ready) >= stableTime {
		in.resetFailures()
	}
	in.Crashes = append(slices.DeleteFunc(slices.Clone(in.Crashes), func(t time.Time) bool {
		return now.Sub(t) >= crashWindow
	}), now)
	if len(in.Crashes) >= crashLimit {
		in.Failing = true
	}
	return in.Failing
}

func (in *instance) resetFailures() { in.Tries, in.Crashes, in.Failing = 0, nil, false }
