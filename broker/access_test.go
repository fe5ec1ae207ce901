package broker

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// The table says what each role may do: p publish, s subscribe, d have
// delivered, - nothing. The user is pi-kitchen, the prefix dominion.
const accessTable = `
topic                                               admin reader device domain
dominion/hub/availability                           psd   sd     sd     sd
dominion/hub/status                                 psd   sd     sd     sd
dominion/hub/event                                  psd   sd     -      sd
dominion/domain/pi-kitchen/availability             psd   sd     -      psd
dominion/domain/pi-kitchen/heartbeat                psd   sd     -      psd
dominion/domain/pi-kitchen/metrics                  psd   sd     -      psd
dominion/domain/pi-kitchen/status                   psd   sd     -      psd
dominion/domain/pi-kitchen/event                    psd   sd     -      psd
dominion/domain/pi-kitchen/response                 psd   sd     -      psd
dominion/domain/pi-kitchen/service/web/log          psd   sd     -      psd
dominion/domain/pi-kitchen/services/set             psd   sd     -      sd
dominion/domain/pi-kitchen/command                  psd   sd     -      sd
dominion/domain/pi-kitchen/drain/set                psd   sd     -      sd
dominion/domain/pi-kitchen/lease                    psd   sd     -      sd
dominion/domain/pi-kitchen/service/web/log/x        psd   sd     -      sd
dominion/domain/pi-kitchen                          psd   sd     -      sd
dominion/domain/other/availability                  psd   sd     -      -
dominion/domain/other/heartbeat                     psd   sd     -      -
dominion/domain/other/services/set                  psd   sd     -      -
dominion/service/web/status                         psd   sd     sd     sd
dominion/service/web/endpoints                      psd   sd     sd     sd
dominion/service/web/set                            psd   sd     -      -
dominion/request/status                             psd   psd    -      p
dominion/request/domains                            psd   psd    -      p
dominion/request/services                           psd   psd    -      p
dominion/request/plan                               psd   psd    -      p
dominion/request/why                                psd   psd    -      p
dominion/request/events                             psd   psd    -      p
dominion/request/version                            psd   psd    -      p
dominion/request/join                               psd   sd     -      p
dominion/request/start                              psd   sd     -      p
dominion/request/status/x                           psd   sd     -      -
dominion/response/status                            psd   sd     -      sd
dominion/response/join/pi-kitchen                   psd   sd     -      sd
dominion/response/join/other                        psd   sd     -      -
dominion/unknown                                    psd   sd     -      -
dominion                                            psd   sd     -      -
dominions/hub/status                                psd   sd     psd    -
zigbee2mqtt/lamp                                    psd   sd     psd    -
homeassistant/device/lamp/config                    psd   sd     psd    -
$SYS/broker/uptime                                  psd   sd     sd     -

filter                                              admin reader device domain
#                                                   s     s      s      -
+/+/+                                               s     s      s      -
+/hub/status                                        s     s      s      -
zigbee2mqtt/#                                       s     s      s      -
dominion/#                                          s     s      -      -
dominion/+/status                                   s     s      -      -
dominion/hub/#                                      s     s      -      s
dominion/hub/+                                      s     s      -      s
dominion/domain/#                                   s     s      -      -
dominion/domain/+/services/set                      s     s      -      -
dominion/domain/pi-kitchen/#                        s     s      -      s
dominion/domain/pi-kitchen/+                        s     s      -      s
dominion/domain/pi-kitchen/service/+/log            s     s      -      s
dominion/service/+/status                           s     s      s      s
dominion/service/+/endpoints                        s     s      s      s
dominion/service/#                                  s     s      -      -
dominion/service/+/set                              s     s      -      -
dominion/response/+                                 s     s      -      s
dominion/response/#                                 s     s      -      -
$share/g/dominion/service/+/status                  s     s      s      s
$share/g/dominion/#                                 s     s      -      -
$share/g/dominion/domain/other/services/set         s     s      -      -
$SYS/#                                              s     s      s      -
`

func TestAccess(t *testing.T) {
	tree := topics.NewTree("dominion")
	letters := map[string]action{"p": publish, "s": subscribe, "d": deliver}
	var head []string
	for line := range strings.Lines(strings.TrimSpace(accessTable)) {
		cells := strings.Fields(line)
		switch {
		case len(cells) == 0:
			continue
		case cells[0] == "topic" || cells[0] == "filter":
			head = cells
			continue
		}
		for i, role := range head[1:] {
			for letter, a := range letters {
				if head[0] == "filter" && a != subscribe {
					continue
				}
				want := strings.Contains(cells[i+1], letter)
				if got := allow("pi-kitchen", role, a, cells[0], tree); got != want {
					t.Errorf("%s %s %s: allowed is %v", role, letter, cells[0], got)
				}
			}
		}
	}
}

func TestAccessDeniesByDefault(t *testing.T) {
	for _, role := range []string{"", "Admin", "root"} {
		for _, a := range []action{publish, subscribe, deliver} {
			if allow("x", role, a, "dominion/hub/status", topics.NewTree("")) {
				t.Errorf("role %q may do action %d", role, a)
			}
		}
	}
}

func TestAccessWithALongPrefix(t *testing.T) {
	tree := topics.NewTree("house/dominion")
	for topic, want := range map[string]bool{
		"house/dominion/service/web/set": false,
		"house/dominion/#":               false,
		"house/dominion/hub/status":      true,
		"house/+/service/web/set":        true, // and held back at delivery
		"house/lamp":                     true,
	} {
		if got := allow("x", RoleDevice, subscribe, topic, tree); got != want {
			t.Errorf("device subscribes to %s: %v", topic, got)
		}
	}
}

// What a pattern covers it must match: no filter may reach a topic that the
// pattern does not match.
func FuzzCovers(f *testing.F) {
	f.Add("domain/+/#", "domain/x/y", "x")
	f.Add("service/+/+", "service/web/set", "x")
	f.Add("hub/+", "hub/", "x")
	f.Fuzz(func(t *testing.T, filter, topic, user string) {
		if strings.ContainsAny(topic, "+#") || strings.ContainsAny(user, "+#/") {
			return
		}
		for _, patterns := range [][]string{readerPublishes, deviceReads, domainPublishes, domainReads} {
			for _, p := range patterns {
				if covers(p, filter, user) && filterMatches(filter, topic) && !covers(p, topic, user) {
					t.Errorf("pattern %q (user %q) covers %q but not %q, which that matches", p, user, filter, topic)
				}
			}
		}
	})
}

// filterMatches is MQTT 3.1.1, 4.7, written from the specification.
func filterMatches(filter, topic string) bool {
	f, l := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		if level == "#" {
			return i == len(f)-1 && len(l) >= i
		}
		if i >= len(l) || level != "+" && level != l[i] {
			return false
		}
	}
	return len(f) == len(l)
}
