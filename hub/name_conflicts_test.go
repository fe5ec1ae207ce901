package hub_test

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/topics"
)

// A hub that announces our id or our name is a problem with its remedy and an
// event, once; what has neither is nobody's business.
func TestConflictsAreProblems(t *testing.T) {
	inHome(t, "", func(h *home) {
		id := h.hub.ID()
		problems := func() (all []string, own string) {
			time.Sleep(time.Second)
			var o topics.Overview
			if err := json.Unmarshal(h.ask(topics.VerbStatus, "").Data, &o); err != nil {
				h.Fatal(err)
			}
			return o.Problems, o.Hub.Problem
		}
		for _, c := range []struct {
			seen hub.Conflict
			want []string // nil: no problem
		}{
			{hub.Conflict{ID: id, Name: "home", Addresses: []string{"10.0.0.7"}}, []string{"the id of this dominion, " + id, "at 10.0.0.7", "data_dir"}},
			{hub.Conflict{ID: id, Name: "renamed", Addresses: []string{"10.0.0.7"}}, []string{"the id of this dominion, " + id}},
			{hub.Conflict{ID: "other", Name: "home", Addresses: []string{"10.0.0.8", "fd00::8"}}, []string{`the name "home" at 10.0.0.8, fd00::8, with id "other"`, "another name"}},
			{hub.Conflict{ID: "other", Name: "barn"}, nil},
			{hub.Conflict{ID: id, Name: "Not a name\x1b"}, nil},
		} {
			h.hub.ConflictsFound([]hub.Conflict{c.seen})
			all, own := problems()
			if c.want == nil {
				if len(all) != 0 || own != "" {
					h.Errorf("%+v is the problem %q", c.seen, all)
				}
				continue
			}
			if len(all) != 1 || all[0] != own {
				h.Fatalf("%+v: problems %q, of the hub %q", c.seen, all, own)
			}
			for _, w := range c.want {
				if !strings.Contains(own, w) {
					h.Errorf("%+v: %q lacks %q", c.seen, own, w)
				}
			}
		}
		h.hub.ConflictsFound(nil)
		if all, _ := problems(); len(all) != 0 {
			h.Errorf("problems when it is over: %q", all)
		}
		before := h.count(topics.HubProblem)
		h.hub.ConflictsFound([]hub.Conflict{{ID: id, Name: "home", Addresses: []string{"10.0.0.7"}}})
		h.hub.ConflictsFound([]hub.Conflict{{ID: id, Name: "home", Addresses: []string{"10.0.0.7", "10.1.0.7"}}})
		problems()
		h.hub.ConflictsFound(nil)
		problems()
		if got := h.count(topics.HubProblem) - before; got != 2 {
			h.Errorf("%d events of one conflict that came and went", got)
		}
	})
}

// A broker that lets everybody in beside its users is a problem of the hub for as
// long as it does.
func TestOpenToAllIsAProblem(t *testing.T) {
	inHome(t, "", func(h *home) {
		var open atomic.Bool
		h.stop()
		h.open = open.Load
		h.start()
		for _, want := range []string{"", config.OpenToAll, ""} {
			open.Store(want != "")
			var o topics.Overview
			if err := json.Unmarshal(h.ask(topics.VerbStatus, "").Data, &o); err != nil {
				h.Fatal(err)
			}
			if got := strings.Join(o.Problems, "; "); got != want {
				h.Errorf("problems %q, want %q", got, want)
			}
		}
	})
}
