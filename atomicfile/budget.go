package atomicfile

import "time"

// Budget bounds how much is written for files whose content others can make
// change as often as they like: an SD card wears out by what is written. The
// owner of the files asks Allows before a write that can wait. The newest content
// is what is written when there is budget again, so nothing is lost but the
// state of a short time at a power cut.
//
// A tenth of what may be written in a day may be written at once. A Budget may be
// in debt: what must be on disk in any case is written and charged. It is not
// for concurrent use. The zero Budget allows everything.
type Budget struct {
	daily int64 // bytes; 0: no limit
	left  float64
	at    time.Time // when left was that; zero: nothing was written yet
}

const (
	day        = 24 * time.Hour
	burstShare = 10
	pageSize   = 4096
	// overhead is what a file system writes for a new file that takes the place of
	// another one: its inode, the directory, and both again in a journal.
	overhead = 4 * pageSize
)

// NewBudget returns a budget of so many bytes a day.
func NewBudget(daily int64) *Budget { return &Budget{daily: daily} }

// Allows reports whether a write at now is within the budget.
func (b *Budget) Allows(now time.Time) bool { return !now.Before(b.Next(now)) }

// Next returns when a write is within the budget: now, or later.
func (b *Budget) Next(now time.Time) time.Time {
	b.refill(now)
	if b.daily == 0 || b.left >= 0 {
		return now
	}
	return now.Add(time.Duration(-b.left/b.steady()) + time.Millisecond)
}

// Charge takes what it costs to write a file of so many bytes.
func (b *Budget) Charge(size int, now time.Time) {
	b.refill(now)
	pages := (size + pageSize - 1) / pageSize
	b.left -= float64(pages*pageSize + overhead)
}

// WriteJSON writes as the function of that name does, and charges it.
func (b *Budget) WriteJSON(path string, v any, now time.Time) error {
	content, err := encode(path, v)
	if err != nil {
		return err
	}
	if err := Write(path, content, 0o600); err != nil {
		return err
	}
	b.Charge(len(content), now)
	return nil
}

// steady returns how many bytes are gained in a nanosecond: what the burst leaves
// of a day.
func (b *Budget) steady() float64 { return float64(b.daily) * (1 - 1.0/burstShare) / float64(day) }

func (b *Budget) refill(now time.Time) {
	burst := float64(b.daily) / burstShare
	if b.at.IsZero() {
		b.left, b.at = burst, now
	}
	if gone := now.Sub(b.at); gone > 0 {
		b.left, b.at = min(b.left+float64(gone)*b.steady(), burst), now
	}
}
