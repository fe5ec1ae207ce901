package signed

import (
	"errors"
	"testing"
)

func TestRatchet(t *testing.T) {
	var r Ratchet
	order := func(key string, epoch, number uint64, want error) {
		t.Helper()
		after, err := r.Accept(key, Mark{epoch, number})
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s, epoch %d, number %d: %v, want %v", key, epoch, number, err, want)
		}
		if err == nil {
			r = after
		}
	}
	order("a", 0, 0, nil) // the first of all
	order("a", 0, 0, ErrSameOrder)
	order("a", 1, 5, nil)
	order("a", 1, 5, ErrSameOrder)
	order("a", 1, 4, ErrOldOrder)
	order("a", 0, 9, ErrOldOrder)
	order("a", 1, 6, nil)
	order("b", 1, 1, nil) // another hub of the same epoch counts by itself
	order("b", 0, 9, ErrOldOrder)
	order("b", 2, 1, nil)
	order("a", 1, 7, ErrOldOrder) // epochs are compared over all keys
	order("a", 1, 6, ErrOldOrder)
	order("a", 3, 1, nil)
	// A stolen key counts to the end; when it leaves the list, the others go on.
	order("b", 1<<63, 1<<63, nil)
	order("a", 4, 1, ErrOldOrder)
	before := r
	r = r.Retain(func(key string) bool { return key == "a" })
	order("a", 3, 1, ErrSameOrder)
	order("a", 4, 1, nil)
	if r.Epoch() != 4 || before.Epoch() != 1<<63 {
		t.Errorf("epochs %d and %d", r.Epoch(), before.Epoch())
	}
}
