package topics

import (
	"testing"
	"time"
)

func TestStartedAt(t *testing.T) {
	began := time.Now()
	first := StartedAt(began, began, Time{})
	if !first.Equal(At(began).Time) {
		t.Errorf("%v, want %v", first, began)
	}
	if got := StartedAt(began, began.Add(time.Hour), first); got != first {
		t.Errorf("%v after an hour, want %v", got, first)
	}
	// The clock was set after the start in 1970: what is told last is years off.
	was := At(time.Unix(60, 0))
	if got := StartedAt(began, began.Add(time.Hour), was); got.Sub(began).Abs() > time.Second {
		t.Errorf("%v after the clock was set, want %v", got, began)
	}
}
