package devices

import (
	"fmt"
	"testing"
	"time"
)

// What most announcements of a domain's firmware say counts, whatever their order,
// and no announcement by another convention.
func TestHowTheFirmwareOfADomainAnnouncesItself(t *testing.T) {
	config := func(n int, ids, name, avty string) [2]string {
		return [2]string{
			fmt.Sprintf("homeassistant/switch/esp/s%d/config", n),
			fmt.Sprintf(`{"uniq_id":"s%d","stat_t":"x/%d","avty_t":%q,"dev":{"ids":%q,"name":%q,"cns":[["mac","a4:cf:12:ef:3b:70"]]}}`, n, n, avty, ids, name),
		}
	}
	const avty = "dominion/domain/esp/availability"
	all := [][2]string{
		config(1, "a4cf12ef3b70", "Porch", avty),
		config(2, "a4cf12ef3b70", "Porch", avty),
		config(3, "0-old", "Old", avty),
		config(4, "b", "Other", "dominion/domain/other/availability"),
		{"esphome/discover/esp", `{"ip":"192.168.1.40","name":"esp","mac":"a4cf12ef3b70"}`},
	}
	for _, backwards := range []bool{false, true} {
		s := New(Options{Prefix: "dominion", DiscoveryPrefix: "homeassistant", Limits: DefaultLimits()})
		for i := range all {
			m := all[i]
			if backwards {
				m = all[len(all)-1-i]
			}
			s.Take(m[0], []byte(m[1]), time.Time{})
		}
		got, ok := s.OfDomain("esp")
		if !ok || got.Name != "Porch" || fmt.Sprint(got.Identifiers, got.Connections) != "[a4cf12ef3b70] [{mac a4:cf:12:ef:3b:70}]" {
			t.Errorf("%+v %v", got, ok)
		}
		if got, ok := s.OfDomain("nobody"); ok {
			t.Errorf("%+v", got)
		}
		for _, m := range all {
			s.Take(m[0], nil, time.Time{})
		}
		if got, ok := s.OfDomain("esp"); ok {
			t.Errorf("all is taken back: %+v", got)
		}
	}
}
