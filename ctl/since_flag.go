package ctl

import (
	"fmt"
	"time"
)

const sinceUsage = "only what is not older than that: a `time` such as 10m or 2026-01-02T15:04:05Z"

// sinceFlag is the value of --since: a duration before now, or a moment.
type sinceFlag struct {
	before time.Duration
	at     time.Time
}

// String returns the value as it was typed; "" if it was not.
func (f *sinceFlag) String() string {
	if !f.at.IsZero() {
		return f.at.Format(time.RFC3339)
	}
	if f.before != 0 {
		return f.before.String()
	}
	return ""
}

// Set takes a duration or a moment of RFC 3339.
func (f *sinceFlag) Set(text string) error {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		*f = sinceFlag{before: d}
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("%q is neither a duration such as 10m nor a time such as 2026-01-02T15:04:05Z", text)
	}
	*f = sinceFlag{at: at}
	return nil
}

// Type is what a help text calls the value.
func (f *sinceFlag) Type() string { return "time" }

func (f *sinceFlag) isSet() bool { return f.before != 0 || !f.at.IsZero() }

// from returns the moment that is meant; the zero time if none is.
func (f *sinceFlag) from(now time.Time) time.Time {
	if f.before != 0 {
		return now.Add(-f.before)
	}
	return f.at
}
