package atomicfile

import (
	"math"
	"testing"
	"time"
)

// Whoever writes as often as the budget allows writes no more than that in a
// day, and a tenth of it at once.
func TestBudgetOfADay(t *testing.T) {
	const daily = 10_000_000
	for _, size := range []int{1, 1000, 50_000, 3_000_000} {
		b := NewBudget(daily)
		cost := (size+pageSize-1)/pageSize*pageSize + overhead
		start := time.Now()
		now, writes := start, 0
		for now.Sub(start) < 24*time.Hour {
			if !b.Allows(now) {
				next := b.Next(now)
				if !next.After(now) {
					t.Fatalf("not allowed, and next at once")
				}
				if now.Equal(start) && writes*cost < daily/burstShare {
					t.Errorf("%d bytes each: %d at once", size, writes)
				}
				now = next
				continue
			}
			b.Charge(size, now)
			writes++
		}
		if all := writes * cost; all > daily+2*cost || all < daily*9/10-cost {
			t.Errorf("%d bytes each: %d in a day", size, all)
		}
	}
}

// What must be written is charged, and delays what can wait.
func TestBudgetInDebt(t *testing.T) {
	b, now := NewBudget(10_000_000), time.Now()
	for range 1000 {
		b.Charge(1, now)
	}
	if wait := b.Next(now).Sub(now); wait < 24*time.Hour {
		t.Errorf("after two days' bytes only %v", wait)
	}
	if !b.Allows(b.Next(now)) {
		t.Error("not allowed when it should be")
	}
}

func TestNoBudgetIsNoLimit(t *testing.T) {
	var b Budget
	now := time.Now()
	b.Charge(math.MaxInt32, now)
	if !b.Allows(now) {
		t.Error("refused")
	}
}
