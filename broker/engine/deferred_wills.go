package engine

import (
	"time"

	"github.com/jmbarzee/dominion/broker/store"
)

// reconnectGrace is the time that clients have to reconnect after a start, before
// their wills are sent. MQTT 5 (3.1.2.5) permits a server that ended or failed to
// defer them. Home Assistant and Tasmota try every ten seconds.
const reconnectGrace = 30 * time.Second

// reduceToWill leaves a session that is not restored nothing but its will, which is
// sent like that of any client that does not come back. It returns the records of that
// change.
func reduceToWill(stored *store.SessionState) []store.Record {
	records := []store.Record{store.SessionGone{Client: stored.Client}}
	if stored.Disconnected.IsZero() {
		stored.Disconnected, stored.EndedByServer = time.Now(), true
	}
	stored.Subscriptions, stored.Queue, stored.Received, stored.Expiry = nil, nil, nil, 0
	if w := stored.Will; w != nil {
		records = append(records, stored.Session, *w)
	}
	return records
}
