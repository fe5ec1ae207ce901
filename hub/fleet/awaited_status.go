package fleet

import "time"

// awaited is what the hub waits for from a domain that sends heartbeats: the status of that
// session, since the start command that it obeys, or that it is available. Without it the
// domain is not taken for online, and without the status its exclusive services get no
// lease.
type awaited struct {
	// since when it is missing, and when to ask next; zero: it is not
	since, again time.Time
	asked        bool
	// lease is set where exclusive services wait for it.
	lease bool
	// absent is set where the status is there and the availability is not online.
	absent bool
	// overwritten is set if somebody else has published at the topic of the status. repairAt is
	// when it may be asked for again because of that.
	overwritten bool
	repairAt    time.Time
}

// A status that is on its way needs no question; one that was lost is asked for well within
// the time that a lease holds.
const (
	statusPatience = 2 * time.Second
	statusAgain    = 5 * time.Second
	// repairInterval is the least time between two questions because it was overwritten.
	repairInterval = 10 * time.Second
)

func (a awaited) problem() string {
	if a.absent {
		return "beats, and its availability is not online: it was asked to report it (if it lasts, restart its agent)"
	}
	text := "beats, and has not reported what runs on it: it was asked to"
	if a.lease {
		text += "; until then its exclusive services get no lease"
	}
	return text + " (if it lasts, restart its agent)"
}

// Question is what AwaitStatus calls for.
type Question struct {
	// Ask reports that the domain is to be asked for its status and availability.
	Ask bool
	// Changed reports that its problem is another one than before.
	Changed bool
	// Problem is what people are to be shown; "": nothing new.
	Problem string
}

// StatusOverwritten notes that somebody else has published at the topic of the status: others
// read that, and the broker may retain it.
func (d *Domain) StatusOverwritten() { d.awaited.overwritten = true }

// AwaitStatus returns what to do about a domain that sent a heartbeat and whose status is
// missing, or its availability: a broker that lost a node may not replay what is retained,
// and what the hub published of a domain while that was cut off reached nobody who could
// contradict. lease reports that exclusive services wait for the status.
func (d *Domain) AwaitStatus(lease bool, now time.Time) Question {
	a := &d.awaited
	if a.overwritten && !now.Before(a.repairAt) {
		a.overwritten, a.repairAt = false, now.Add(repairInterval)
		return Question{Ask: true}
	}
	if d.StatusCurrent() && !lease && d.Available {
		q := Question{Changed: a.asked}
		*a = awaited{overwritten: a.overwritten, repairAt: a.repairAt}
		return q
	}
	if a.since.IsZero() {
		a.since, a.again = now, now.Add(statusPatience)
		return Question{}
	}
	if now.Before(a.again) {
		return Question{}
	}
	before := *a
	a.asked, a.again, a.lease, a.absent = true, now.Add(statusAgain), lease, d.StatusCurrent() && !lease
	q := Question{Ask: true, Changed: !before.asked || a.lease != before.lease || a.absent != before.absent}
	if !before.asked {
		q.Problem = a.problem()
	}
	return q
}
