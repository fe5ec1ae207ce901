package access

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/broker/wire"
)

// What a pattern covers it matches: no filter reaches a topic that the pattern
// does not match.
func FuzzCovers(f *testing.F) {
	f.Add("domain/%u/#", "domain/+/#", "domain/x/y", "x", "id")
	f.Add("service/+/status", "service/+/+", "service/web/set", "x", "id")
	f.Add("a/%u-%c/b", "a/x-id/+", "a/x-id/b", "x", "id")
	f.Add("hub/+", "hub/+", "hub/", "x", "")
	f.Fuzz(func(t *testing.T, pattern, filter, topic, user, id string) {
		if strings.ContainsAny(topic, "+#") || CheckFilter(pattern) != nil || filter == "" || topic == "" {
			return
		}
		c := Client{User: user, ID: id}
		if covers(pattern, filter, c) && wire.Matches(filter, topic) && !covers(pattern, topic, c) {
			t.Errorf("pattern %q (%+v) covers %q but not %q, which that matches", pattern, c, filter, topic)
		}
	})
}

// No subscription that was allowed to a domain reaches a topic that it may not
// read: what it subscribes to is not held back silently.
func FuzzDomainSubscriptions(f *testing.F) {
	f.Add("+/hub/#", "dominion/hub/status", "x")
	f.Add("zigbee2mqtt/#", "zigbee2mqtt/lamp", "x")
	f.Add("#", "dominion", "x")
	f.Fuzz(func(t *testing.T, filter, topic, user string) {
		if strings.ContainsAny(topic, "+#") || filter == "" || topic == "" || topic[0] == '$' || filter[0] == '$' || CheckFilter(strings.ReplaceAll(filter, "%", "")) != nil {
			return
		}
		p := plain(t, "dominion")
		c := Client{User: user, Role: RoleDomain}
		if p.Decide(c, Subscribe, filter).Allowed && wire.Matches(filter, topic) && !p.Decide(c, Deliver, topic).Allowed {
			t.Errorf("%s may subscribe to %q, and is not given %q", user, filter, topic)
		}
	})
}
