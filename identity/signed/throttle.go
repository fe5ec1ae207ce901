package signed

import "time"

// Verifications of sources that sent something wrong before.
const (
	// throttleRate is how many of their messages are verified in a second, together.
	throttleRate = 50
	// suspicion is how long a source counts as wrong after its last wrong message.
	suspicion = time.Minute
	// maxSources bounds the sources that are remembered.
	maxSources = 1024
)

// Throttle bounds the verifications that sources of wrong signatures can cause. A source that sent
// nothing wrong is never limited, unless there are too many wrong ones to remember.
// A source is what the caller tells senders apart by: a topic, a key. The zero Throttle
// is ready for use; it is not safe for concurrent use.
type Throttle struct {
	wrong map[string]time.Time // source → when it last was wrong
	spent float64
	at    time.Time
	// full is until when every source counts as wrong: more were wrong than are remembered.
	full time.Time
}

// Allow reports whether a message of a source may be verified now.
func (t *Throttle) Allow(source string, now time.Time) bool {
	at, is := t.wrong[source]
	if is && now.Sub(at) > suspicion {
		delete(t.wrong, source)
		is = false
	}
	if !is && !now.Before(t.full) {
		return true
	}
	if elapsed := now.Sub(t.at); elapsed > 0 {
		t.spent, t.at = max(0, t.spent-elapsed.Seconds()*throttleRate), now
	}
	if t.spent+1 > throttleRate {
		return false
	}
	t.spent++
	return true
}

// Failed records that a message of a source was wrong.
func (t *Throttle) Failed(source string, now time.Time) {
	if t.wrong == nil {
		t.wrong = make(map[string]time.Time)
	}
	if _, is := t.wrong[source]; !is && len(t.wrong) >= maxSources {
		for other, at := range t.wrong {
			if now.Sub(at) > suspicion {
				delete(t.wrong, other)
			}
		}
		if len(t.wrong) >= maxSources {
			t.full = now.Add(suspicion)
			return
		}
	}
	t.wrong[source] = now
}
