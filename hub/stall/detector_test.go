package stall

import (
	"strings"
	"testing"
	"time"
)

// A pause is as long as the loop did not run, with its share of the disk and the figures from
// before and after.
func TestDetector(t *testing.T) {
	figures, reads := Figures{Available: true, Pressure: true}, 0
	d := NewDetector(func() Figures { reads++; return figures })
	const interval = time.Second
	now := time.Unix(1000, 0)
	if p := d.Observe(now, 0, interval); !p.Began.IsZero() || !d.ObservedAt().Equal(now) || reads != 1 {
		t.Errorf("the first look: %+v, %d reads", p, reads)
	}
	p := d.Observe(now.Add(time.Second/2), time.Second/4, interval)
	if !p.Began.Equal(now) || p.Length != time.Second/2 || p.Disk != time.Second/4 || reads != 1 {
		t.Errorf("soon after: %+v, %d reads", p, reads)
	}
	figures.Memory += 15 * time.Second
	now = now.Add(20 * time.Second)
	p = d.Observe(now, time.Second/4, interval)
	if p.Length != 20*time.Second-time.Second/2 || p.Disk != 0 || reads != 2 || !strings.HasPrefix(p.Cause(), "the machine is out of memory") {
		t.Errorf("after a pause: %+v, %d reads, %s", p, reads, p.Cause())
	}
	if p = d.Observe(now.Add(20*time.Second), 11*time.Second, interval); !strings.HasPrefix(p.Cause(), "the disk of its data_dir") {
		t.Errorf("after a wait for the disk: %+v, %s", p, p.Cause())
	}
	unknown := NewDetector(nil)
	unknown.Observe(now, 0, interval)
	if p := unknown.Observe(now.Add(time.Minute), 0, interval); p.Length != time.Minute || !strings.HasPrefix(p.Cause(), "is this machine out of memory") {
		t.Errorf("without figures: %+v, %s", p, p.Cause())
	}
}
