package ratelimit

import (
	"testing"
	"time"
)

// A window allows so many reports of a cause and in all, counts the rest, and ends a
// minute after its first report.
func TestWindow(t *testing.T) {
	w, now := New(3), time.Now()
	for i, want := range []struct {
		cause   string
		allowed bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"c", false}} {
		if got := w.Allow(want.cause, 2, now); got != want.allowed {
			t.Errorf("report %d, of %s: allowed %v", i, want.cause, got)
		}
	}
	if n := w.Expire(now.Add(length - 1)); n != 0 || !w.Next().Equal(now.Add(length)) {
		t.Errorf("it ended early, with %d suppressed; ends at %v", n, w.Next())
	}
	if n := w.Expire(now.Add(length)); n != 2 || !w.Next().IsZero() {
		t.Errorf("%d suppressed, next %v", n, w.Next())
	}
	if !w.Allow("a", 2, now.Add(length)) {
		t.Error("a new window allows nothing")
	}
}
