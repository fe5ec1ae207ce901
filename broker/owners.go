package broker

import "sync"

// ownersKept is how many client identifiers without a session are remembered.
const ownersKept = 1 << 16

// owners remembers which user a client identifier belongs to: the one who
// first used it. Who takes another's identifier would end the other's
// connection, and get what waits for it [MQTT-3.1.4-3].
//
// An identifier that only anonymous clients used belongs to nobody yet: the
// home that begins without users gets them later.
type owners struct {
	mu sync.Mutex
	of map[string]string
}

// take tells whether a user may use an identifier, which is the user's from
// then on. there tells whether a user is still one: what is left of a user that
// was removed goes to the next.
func (o *owners) take(id, user string, there func(string) bool, hasSession func(string) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if owner := o.of[id]; owner != "" && owner != user && there(owner) {
		return false
	}
	if user == "" {
		return true
	}
	if o.of == nil {
		o.of = make(map[string]string)
	}
	if len(o.of) >= ownersKept {
		for other := range o.of {
			if !hasSession(other) {
				delete(o.of, other)
			}
		}
	}
	o.of[id] = user
	return true
}
