package ownproblems_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/hub/ownproblems"
)

var start = time.Date(2000, 1, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func newProblems(change func(o *ownproblems.Options)) *ownproblems.Problems {
	o := ownproblems.Options{
		ID: "our-id", Name: "home",
		NotPersisted: func() error { return nil }, OpenToAll: func() string { return "" },
	}
	if change != nil {
		change(&o)
	}
	return ownproblems.New(o)
}

// want checks that the problems contain these texts, one each, in order.
func want(t *testing.T, what string, got []string, texts ...string) {
	t.Helper()
	if len(got) != len(texts) {
		t.Errorf("%s: %q, want %d", what, got, len(texts))
		return
	}
	for i, text := range texts {
		if !strings.Contains(got[i], text) {
			t.Errorf("%s: %q lacks %q", what, got[i], text)
		}
	}
}

// Every kind of problem is among all, and goes when it is over.
func TestAll(t *testing.T) {
	disk, open := errors.New("no space left on device"), "everybody is let in"
	p := newProblems(func(o *ownproblems.Options) {
		o.HTTP, o.Control = []string{"http 1 is in use"}, "the control socket is not open"
		o.NotPersisted, o.OpenToAll = func() error { return disk }, func() string { return open }
		o.Certificates = []ownproblems.Certificate{{Name: "the certificate", Keys: "cert_file", Expires: func() time.Time { return start.Add(day) }}}
	})
	if text := p.SetReload(errors.New("line 3")); !strings.HasSuffix(text, "the old one stays in force: line 3") {
		t.Error(text)
	}
	p.SetConflicts([]ownproblems.Conflict{{ID: "our-id", Name: "home"}})
	p.Expire(start)
	want(t, "all", p.All(start), "line 3", "no space left", "expires on 2000-01-02", "the control socket", "everybody", "announces the id", "http 1")
	p.SetReload(nil)
	p.SetConflicts(nil)
	p.SetHTTP([]string{"http 2 is in use"})
	disk, open = nil, ""
	want(t, "later", p.All(start), "expires on 2000-01-02", "the control socket", "http 2")
}

// A hub with our id or our name is a conflict; it is news once, and when it is gone.
func TestConflicts(t *testing.T) {
	for _, c := range []struct {
		name     string
		conflict ownproblems.Conflict
		problem  string // "": it is none
	}{
		{"our id and name", ownproblems.Conflict{ID: "our-id", Name: "home", Addresses: []string{"10.0.0.7"}}, "the id of this dominion, our-id, at 10.0.0.7"},
		{"our id", ownproblems.Conflict{ID: "our-id", Name: "renamed"}, "the id of this dominion"},
		{"our name", ownproblems.Conflict{ID: "other", Name: "home", Addresses: []string{"10.0.0.8", "fd00::8"}}, `the name "home" at 10.0.0.8, fd00::8`},
		{"another", ownproblems.Conflict{ID: "other", Name: "barn"}, ""},
		{"no valid name", ownproblems.Conflict{ID: "our-id", Name: "Not a name\x1b"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProblems(nil)
			var texts []string
			if c.problem != "" {
				texts = []string{c.problem}
			}
			want(t, "news", p.SetConflicts([]ownproblems.Conflict{c.conflict}), texts...)
			c.conflict.Addresses = append(c.conflict.Addresses, "10.0.0.9")
			want(t, "with another address", p.SetConflicts([]ownproblems.Conflict{c.conflict}))
			want(t, "all", p.All(start), texts...)
			if c.problem != "" {
				texts = []string{"does not answer any more"}
			}
			want(t, "gone", p.SetConflicts(nil), texts...)
			want(t, "all when it is gone", p.All(start))
		})
	}
}

// SetConflicts does not change what it is given.
func TestConflictsOfTheCaller(t *testing.T) {
	given := []ownproblems.Conflict{{ID: "other", Name: "barn"}, {ID: "our-id", Name: "home"}}
	newProblems(nil).SetConflicts(given)
	if given[0].Name != "barn" || given[1].Name != "home" {
		t.Errorf("it is %v now", given)
	}
}

// A certificate is warned of at 30, 7, 1 and 0 days before its end, each time once, and
// again after it was replaced.
func TestCertificateWarnings(t *testing.T) {
	until := start.Add(40 * day)
	p := newProblems(func(o *ownproblems.Options) {
		o.Certificates = []ownproblems.Certificate{{Name: "the certificate", Keys: "cert_file", Expires: func() time.Time { return until }}}
	})
	var days []int
	pass := func(from time.Time, many int) {
		for now := from; now.Before(from.Add(time.Duration(many) * day)); now = p.Next() {
			warned, changed := p.Expire(now)
			if !p.Next().After(now) {
				t.Fatalf("next is %v at %v", p.Next(), now)
			}
			if len(warned) > 0 && !changed {
				t.Error("a warning is no change")
			}
			for range warned {
				days = append(days, int(until.Sub(now)/day))
			}
		}
	}
	pass(start, 50)
	if !slices.Equal(days, []int{30, 7, 1, 0}) {
		t.Errorf("warned with %v days left", days)
	}
	want(t, "after its end", p.All(start.Add(50*day)), "expired on 2000-02-10")
	days, until = nil, start.Add(55*day) // the new one is short
	pass(start.Add(50*day), 2)
	if !slices.Equal(days, []int{5}) {
		t.Errorf("the new one: warned with %v days left", days)
	}
	until = start.Add(400 * day)
	if _, changed := p.Expire(start.Add(53 * day)); !changed {
		t.Error("another certificate is no change")
	}
	want(t, "renewed", p.All(start.Add(53*day)))
	if got := p.CertificatesExpire(); !got.Equal(until) {
		t.Errorf("expires %v", got)
	}
}

// The first end counts; without a certificate there is none, and nothing is due.
func TestCertificatesExpire(t *testing.T) {
	for _, c := range []struct {
		name string
		ends []time.Duration // 0: it is missing
		want time.Duration
	}{
		{"none", nil, 0},
		{"a missing one", []time.Duration{0}, 0},
		{"two", []time.Duration{90 * day, 60 * day}, 60 * day},
		{"two, the other way round", []time.Duration{60 * day, 90 * day}, 60 * day},
		{"one of two", []time.Duration{0, 60 * day}, 60 * day},
		{"the other of two", []time.Duration{60 * day, 0}, 60 * day},
	} {
		p := newProblems(func(o *ownproblems.Options) {
			for _, end := range c.ends {
				o.Certificates = append(o.Certificates, ownproblems.Certificate{Expires: func() time.Time {
					if end == 0 {
						return time.Time{}
					}
					return start.Add(end)
				}})
			}
		})
		if warned, _ := p.Expire(start); len(warned) > 0 {
			t.Errorf("%s: %q", c.name, warned)
		}
		got := p.CertificatesExpire()
		if c.want == 0 && !got.IsZero() || c.want > 0 && !got.Equal(start.Add(c.want)) {
			t.Errorf("%s: %v", c.name, got)
		}
		if len(c.ends) == 0 && !p.Next().IsZero() {
			t.Errorf("%s: next is %v", c.name, p.Next())
		}
	}
}
