package fleet

import (
	"errors"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A status of another session than the domain's, or one that was sent before, is not news;
// before the session is known, that of any is.
func TestCompareStatus(t *testing.T) {
	status := &topics.Domain{Session: "s", Seq: 5}
	for name, c := range map[string]struct {
		d       Domain
		session string
		seq     uint64
		want    error
	}{
		"the first of all":                      {Domain{}, "s", 1, nil},
		"no session":                            {Domain{}, "", 1, errNoSession},
		"of the session that joined":            {Domain{joined: "s"}, "s", 1, nil},
		"of another one than joined":            {Domain{joined: "s"}, "former", 99, errFormer},
		"of another one than beats":             {Domain{Heartbeat: topics.Heartbeat{Session: "s"}}, "former", 99, errFormer},
		"the next one":                          {Domain{joined: "s", Status: status}, "s", 6, nil},
		"the same":                              {Domain{joined: "s", Status: status}, "s", 5, errOld},
		"an older one":                          {Domain{joined: "s", Status: status}, "s", 4, errOld},
		"the first one of the next session":     {Domain{joined: "next", Status: status}, "next", 1, nil},
		"after a start of the hub":              {Domain{Status: status}, "s", 6, nil},
		"an older one after a start of the hub": {Domain{Status: status}, "s", 4, errOld},
	} {
		if err := c.d.CompareStatus(c.session, c.seq); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Each event of the session that is known is taken once.
func TestCompareEvent(t *testing.T) {
	var d Domain
	step := func(session string, seq uint64, want error) {
		t.Helper()
		err := d.CompareEvent(session, seq)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("event %d of %q: %v, want %v", seq, session, err, want)
		}
		if err == nil {
			d.AcceptEvent(session, seq)
		}
	}
	step("s", 1, errFormer) // nobody knows its session
	d.joined = "s"
	step("", 1, errNoSession)
	step("s", 1, nil)
	step("s", 1, errOld)
	step("s", 3, nil)
	step("s", 2, errOld)
	d.joined = "next"
	step("s", 4, errFormer)
	step("next", 1, nil)
	step("next", 1, errOld)
}
