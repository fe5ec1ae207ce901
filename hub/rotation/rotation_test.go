package rotation

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func all(string) bool { return true }

// stored returns what a hub that starts again at a time has of a rotation.
func stored(t *testing.T, r *Rotation, present, next string, now time.Time) *Rotation {
	t.Helper()
	state, _ := r.State()
	text, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	var again State
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	return New(again, present, next, now)
}

// The next authority is used once all have it, also over restarts; a domain that is away is
// waited for as long as it takes.
func TestAllHaveIt(t *testing.T) {
	domains := []string{"attic", "kitchen"}
	r := New(State{}, "old", "", start)
	if _, changed := r.State(); changed || r.Due(nil, all, start) {
		t.Error("something is to be done at the start")
	}
	r.Begin("new", false, start)
	if _, changed := r.State(); !changed || r.Successor() != "new" || r.Since() != start {
		t.Error("not begun")
	}
	if !r.Stored("kitchen", "new", "old") || r.Stored("kitchen", "new", "old") || !r.Has("kitchen") || r.Has("attic") {
		t.Error("the kitchen has it")
	}
	later := start.Add(1000 * time.Hour)
	r = stored(t, r, "old", "new", later)
	if r.Due(domains, all, later) || !r.Next().IsZero() {
		t.Error("it is not waited for the attic")
	}
	r.Stored("kitchen", "old", "old") // its disk was restored
	r.Stored("attic", "new", "old")
	if r.Due(domains, all, later) {
		t.Error("the kitchen does not have it any more")
	}
	r.Stored("kitchen", "new", "old")
	if !r.Due(domains, all, later) || r.Due(domains, all, later) {
		t.Error("not due, or twice")
	}
	r.Failed(later)
	if r.Due(domains, all, later) || !r.Due(domains, all, r.Next()) {
		t.Error("it is not tried again")
	}
	if behind := r.Used(domains); len(behind) > 0 || r.Successor() != "" || r.AnyBehind() {
		t.Errorf("behind: %v", behind)
	}
	if r := stored(t, r, "new", "", later); r.Successor() != "" {
		t.Error("it goes on after its end")
	}
}

// A domain that was forgotten is not waited for.
func TestForgotten(t *testing.T) {
	r := New(State{}, "old", "", start)
	r.Begin("new", false, start)
	r.Stored("kitchen", "new", "old")
	r.Stored("attic", "new", "old")
	r.Retain(func(id string) bool { return id == "kitchen" })
	if r.Has("attic") || !r.Has("kitchen") || !r.Due([]string{"kitchen"}, all, start) {
		t.Error("the attic")
	}
}

// One that is compromised ends when those have the next one that are online, and in seconds at the
// latest; after a restart the domains are given the time to come back. Those that were away are behind
// until they have it.
func TestCompromised(t *testing.T) {
	domains := []string{"attic", "cellar", "kitchen"}
	online := func(id string) bool { return id != "attic" }
	begin := func() *Rotation {
		r := New(State{}, "old", "", start)
		r.Begin("new", false, start)
		r.Begin("new", true, start)
		if !r.Compromised() {
			t.Error("it did not become urgent")
		}
		r.Begin("new", false, start)
		if !r.Compromised() || r.Due(domains, online, start) {
			t.Error("it became less urgent, or does not wait for the kitchen")
		}
		return r
	}
	r := begin()
	r.Stored("kitchen", "new", "old")
	r.Stored("cellar", "new", "old")
	if !r.Due(domains, online, start) {
		t.Error("it waits for the attic")
	}
	r = begin()
	if r.Due(domains, online, r.Next().Add(-1)) || !r.Due(domains, online, r.Next()) || r.Next() != (time.Time{}) {
		t.Error("a domain that is silent is waited for")
	}
	r = begin()
	r.Stored("kitchen", "new", "old")
	r = stored(t, r, "old", "new", start)
	if r.Due(domains, func(string) bool { return false }, start) || r.Next().IsZero() || !r.Due(domains, online, r.Next()) {
		t.Error("after a restart")
	}
	if behind := r.Used(domains); !slices.Equal(behind, []string{"attic", "cellar"}) || !r.Behind("attic") || r.Behind("kitchen") {
		t.Errorf("behind: %v", behind)
	}
	r = stored(t, r, "new", "", start)
	r.Stored("attic", "old", "new")
	if !r.Behind("attic") {
		t.Error("the attic has the former one")
	}
	r.Stored("attic", "new", "new")
	if r.Behind("attic") || !r.AnyBehind() {
		t.Error("the attic has it")
	}
	r.Retain(func(id string) bool { return id != "cellar" })
	if r.AnyBehind() {
		t.Error("the cellar was forgotten")
	}
}

// What the files of the keys say counts more than what was stored last.
func TestPowerCut(t *testing.T) {
	// Nobody is known who could be missing: without the list of domains none would be waited for.
	r := New(State{}, "old", "new", start)
	if r.Successor() != "new" || !r.Interrupted() || r.Due(nil, all, start.Add(time.Hour)) || !r.Next().IsZero() {
		t.Error("one that was begun goes on by itself, or is not known")
	}
	r.Stored("attic", "new", "old")
	if r.Begin("new", false, start); r.Interrupted() || !r.Has("attic") || !r.Due([]string{"attic"}, all, start) {
		t.Error("it does not go on when it is asked for")
	}
	if r := New(State{Next: "new"}, "old", "", start); r.Successor() != "" {
		t.Error("one that was given up goes on")
	}
	r = New(State{Next: "new", Has: map[string]bool{"attic": true}}, "new", "", start)
	if r.Successor() != "new" || !r.Has("attic") {
		t.Error("one that was used is forgotten: who is behind?")
	}
}
