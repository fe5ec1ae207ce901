package devices

import (
	"testing"

	"github.com/jmbarzee/dominion/hub/devices/devicestest"
	"github.com/jmbarzee/dominion/topics"
)

// TestCorpus compares the entries of the corpus, device by device, with what the
// real Home Assistant made of it when it was recorded
// (e2e/homeassistant_devices_test.go).
func TestCorpus(t *testing.T) {
	s := open()
	all := devicestest.Messages()
	for range 2 { // what came before its announcement is replayed to who asks then
		for _, m := range all {
			s.Take(m.Topic, []byte(m.Payload), noon)
		}
	}
	problems, more := s.Problems()
	ours := topics.Devices{Devices: everyDevice(s), Problems: problems, More: more}
	rest, unused := devicestest.Unexplained(devicestest.Differences(ours, devicestest.Recorded(), all))
	for _, d := range rest {
		t.Error(d)
	}
	for _, row := range unused {
		t.Errorf("%s: %s is as in Home Assistant, take it out of the table (%s)", row.Device, row.Field, row.Reason)
	}
	if cases := len(devicestest.Corpus()); cases < 60 {
		t.Errorf("%d cases, want at least 60", cases)
	}
}
