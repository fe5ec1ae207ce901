package rollout

import (
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Times of a rollout that no definition names.
const (
	// SettleCatalog is how long a domain's catalog has to say the same version
	// before that is rolled out: what is being copied there changes file by file.
	SettleCatalog = 5 * time.Second
	// unchecked is how long an instance is watched whose health nobody asks.
	unchecked = 5 * time.Second
	// slack is given to messages and machines beyond what a definition allows.
	slack = 5 * time.Second
)

// Watch is how long an instance has to be well before the next one is changed:
// as long as its health check takes to find it unhealthy.
func Watch(s topics.Spec) time.Duration {
	h := s.Health
	if h == nil || h.HTTP == "" && !h.TCP && h.MQTT == "" {
		if h != nil {
			return max(unchecked, h.Watchdog.Duration())
		}
		return unchecked
	}
	interval, timeout, failures := checks(*h)
	return time.Duration(failures)*interval + timeout
}

// Patience is how long a changed instance may take to be well: to stop, to
// start, and to be found healthy.
func Patience(s topics.Spec) time.Duration {
	start := s.StartTimeout.Duration()
	if start <= 0 {
		start = services.DefaultStartTimeout
	}
	var h topics.HealthCheck
	if s.Health != nil {
		h = *s.Health
	}
	interval, timeout, failures := checks(h)
	return services.StopTimeout(s) + start + time.Duration(failures)*interval + timeout + slack
}

func checks(h topics.HealthCheck) (interval, timeout time.Duration, failures int) {
	interval, timeout, failures = h.Interval.Duration(), h.Timeout.Duration(), h.Failures
	if interval <= 0 {
		interval = services.DefaultHealthInterval
	}
	if timeout <= 0 {
		timeout = services.DefaultHealthTimeout
	}
	if failures <= 0 {
		failures = services.DefaultHealthFailures
	}
	return interval, timeout, failures
}
