package stall

import "time"

// Detector notices that a loop stood still. Make it with NewDetector.
type Detector struct {
	// read reads the figures; nil: there are none.
	read    func() Figures
	figures Figures
	readAt  time.Time
	// observedAt is when the loop ran last; zero: not yet.
	observedAt time.Time
	// waited is how long its disk had taken then.
	waited time.Duration
}

// NewDetector returns the detector of a loop that has not run yet. read reads the figures; it
// may be nil.
func NewDetector(read func() Figures) *Detector { return &Detector{read: read} }

// Pause is the time between two runs of a loop.
type Pause struct {
	// Began is when the loop ran before; zero: it did not.
	Began time.Time
	// Length is how long the pause was, Disk for how much of that the loop waited for its
	// disk.
	Length, Disk  time.Duration
	before, after Figures
}

// Cause returns why the loop stood still, in words.
func (p Pause) Cause() string { return Cause(p.before, p.after, p.Length, p.Disk) }

// Observe notes that the loop runs at now, and returns the pause before. waited is how long its
// disk has taken since its start. The figures are read again at most once in interval.
func (d *Detector) Observe(now time.Time, waited, interval time.Duration) Pause {
	p := Pause{Began: d.observedAt, Length: now.Sub(d.observedAt), Disk: waited - d.waited, before: d.figures}
	d.observedAt, d.waited = now, waited
	if d.read != nil && now.Sub(d.readAt) >= interval {
		d.readAt, d.figures = now, d.read()
	}
	p.after = d.figures
	return p
}

// ObservedAt returns when the loop ran last.
func (d *Detector) ObservedAt() time.Time { return d.observedAt }
