package fleet

import (
	"fmt"
	"time"
)

// copyMark is a machine that was refused because another one of its id was there.
type copyMark struct {
	// of is the session of the other one.
	of string
	// seq is the number of its heartbeat then.
	seq uint64
	// proved is set once the other one went on sending heartbeats: there are two machines.
	proved bool
	at     time.Time
}

// copyLifetime is how long a copy is remembered after it last asked.
const copyLifetime = 10 * time.Minute

// isCopy reports whether a machine that shows the id of a domain is another one than the
// machine that is there. An agent that connects again is of the same session; that one
// has ended is shown by its will or by silence. One that asked while the other went on sending
// heartbeats is a copy for good: it does not take the place of a machine that is away for a
// moment.
func (f *Fleet) isCopy(d *Domain, c Claim, now time.Time) bool {
	if c.Session == "" || c.Session == d.Session() {
		return false
	}
	if d.former != "" && c.Session == d.former {
		// It was there before the hub started; what joined since is the copy.
		if d.joined != "" && d.joined != c.Session {
			f.markCopy(d.joined, &copyMark{proved: true, at: now})
		}
		return false
	}
	present := d.HasBeat && d.Available && f.Beats(d, now)
	mark := f.copies[c.Session]
	if mark != nil {
		mark.at = now
		// One more heartbeat may have been on its way.
		mark.proved = mark.proved || d.Heartbeat.Session == mark.of && d.Heartbeat.Seq > mark.seq+1
		return present || mark.proved
	}
	if present {
		f.markCopy(c.Session, &copyMark{of: d.Heartbeat.Session, seq: d.Heartbeat.Seq, at: now})
	}
	return present
}

// OthersBeat reports whether a heartbeat came lately of another run of an agent than the one that
// has joined as the domain.
func (f *Fleet) OthersBeat(d *Domain, now time.Time) bool {
	return !d.othersBeatAt.IsZero() && now.Sub(d.othersBeatAt) < f.o.LostAfter
}

func (f *Fleet) markCopy(session string, m *copyMark) {
	if len(f.copies) < maxRefused || f.copies[session] != nil {
		f.copies[session] = m
	}
}

// copied returns what to do about a second machine of an id.
func copied(d *Domain) error {
	return fmt.Errorf("a machine of this very id runs as %s already%s: if the disk was copied, stop the agent of the copy and run `domain reset` on it, which gives it an id of its own; if this machine just restarted or was renamed, it is taken in a moment", d.Name, at(d.address()))
}
