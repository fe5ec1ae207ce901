package atomicfile

import "time"

// Budget bounds the bytes that are written to files whose content others can change as
// often as they like: an SD card wears out by writing. The owner of the files calls
// Allows before a write that can wait. When there is budget again, the newest content
// is written, so a power cut loses only the changes of a short time.
//
// A tenth of the daily budget may be written at once. A budget may go into debt: what
// must be on disk in any case is written and charged. It is not safe for concurrent
// use. The zero Budget allows everything.
type Budget struct {
	// daily is in bytes; 0: no limit.
	daily int64
	// balance is in bytes; negative: debt.
	balance float64
	// refilledAt is when balance was computed; zero: nothing was written yet.
	refilledAt time.Time
}

const (
	day        = 24 * time.Hour
	burstShare = 10
	pageSize   = 4096
	// overhead is what a file system writes for a file that replaces another one: its
	// inode, the directory, and both again in a journal.
	overhead = 4 * pageSize
)

// NewBudget returns a budget of daily bytes a day.
func NewBudget(daily int64) *Budget { return &Budget{daily: daily} }

// Allows reports whether a write at now is within the budget.
func (b *Budget) Allows(now time.Time) bool { return !now.Before(b.Next(now)) }

// Next returns when a write is within the budget: now, or later.
func (b *Budget) Next(now time.Time) time.Time {
	b.refill(now)
	if b.daily == 0 || b.balance >= 0 {
		return now
	}
	return now.Add(time.Duration(-b.balance/b.refillRate()) + time.Millisecond)
}

// Charge charges the cost of writing a file of size bytes.
func (b *Budget) Charge(size int, now time.Time) {
	b.refill(now)
	pages := (size + pageSize - 1) / pageSize
	b.balance -= float64(pages*pageSize + overhead)
}

// WriteJSON is the function WriteJSON, and charges the write.
func (b *Budget) WriteJSON(path string, v any, now time.Time) error {
	content, err := Encode(path, v)
	if err != nil {
		return err
	}
	if err := Write(path, content, 0o600); err != nil {
		return err
	}
	b.Charge(len(content), now)
	return nil
}

// refillRate returns the bytes that accrue in a nanosecond: the daily budget less the
// burst.
func (b *Budget) refillRate() float64 { return float64(b.daily) * (1 - 1.0/burstShare) / float64(day) }

// refill adds what has accrued since the last refill.
func (b *Budget) refill(now time.Time) {
	burst := float64(b.daily) / burstShare
	if b.refilledAt.IsZero() {
		b.balance, b.refilledAt = burst, now
	}
	if elapsed := now.Sub(b.refilledAt); elapsed > 0 {
		b.balance, b.refilledAt = min(b.balance+float64(elapsed)*b.refillRate(), burst), now
	}
}
