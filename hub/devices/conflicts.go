package devices

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// conflicts are what is wrong with announcements that are right each for itself:
// several machines that are one device, and duplicate entities. They
// follow from the announcements, so they are computed when they are asked for.
func (s *State) conflicts() (all []topics.DeviceProblem) {
	twice := s.duplicateEntities()
	for _, id := range slices.Sorted(maps.Keys(s.devices)) {
		if p := s.mergedMachines(id); p != "" {
			all = append(all, topics.DeviceProblem{Device: id, Message: p})
		}
		for _, p := range twice[id] {
			all = append(all, topics.DeviceProblem{Device: id, Message: p})
		}
	}
	return all
}

// mergedMachines describes machines that are one device because they share an
// identifier: the firmware of each has a constant there. Announcements are of
// different machines where each has an address of the same kind and no other
// announcement has both.
func (s *State) mergedMachines(id string) string {
	device := s.devices[id]
	if len(device) < 2 {
		return ""
	}
	for _, kind := range []string{keyMAC, keyIEEE} {
		groups := machines(device, kind)
		if len(groups) < 2 {
			continue
		}
		shared := sharedIdentifier(device, kind)
		text := "several devices announce themselves as one"
		if shared != "" {
			text += fmt.Sprintf(", by the identifier %q", cut(shared, maxText))
		} else {
			text += ", by an identifier that they share"
		}
		return text + ": " + cut(strings.Join(groups, ", "), maxTopic) + "; give each an identifier of its own, as with its address"
	}
	return ""
}

// machines returns the least address of each group of announcements that are
// joined by addresses of a kind, sorted.
func machines(device []*announcement, kind string) []string {
	group := make(map[key]key) // the address that stands for one
	var root func(key) key
	root = func(k key) key {
		if up, ok := group[k]; ok && up != k {
			group[k] = root(up)
			return group[k]
		}
		return k
	}
	for _, a := range device {
		first := key("")
		for _, k := range a.keys {
			if string(k[:1]) != kind {
				continue
			}
			if _, ok := group[k]; !ok {
				group[k] = k
			}
			if first == "" {
				first = k
				continue
			}
			x, y := root(first), root(k)
			group[max(x, y)] = min(x, y)
		}
	}
	var all []string
	for k := range group {
		if root(k) == k {
			all = append(all, k.id())
		}
	}
	slices.Sort(all)
	return all
}

// sharedIdentifier returns an identifier that announcements with different
// addresses of a kind have.
func sharedIdentifier(device []*announcement, kind string) string {
	of := make(map[string]key)
	for _, a := range device {
		at := slices.IndexFunc(a.keys, func(k key) bool { return string(k[:1]) == kind })
		if at < 0 {
			continue
		}
		for _, name := range a.identifiers {
			if had, ok := of[name]; ok && had != a.keys[at] && !strings.HasPrefix(string(keyOfIdentifier(name)), kind) {
				return name
			}
			of[name] = a.keys[at]
		}
	}
	return ""
}

// duplicateEntities describes, by device, the entities that two announcements have: with one
// unique_id, of which Home Assistant takes the first alone, or at one place of a
// device that has no address, which are two boards with a constant identifier.
func (s *State) duplicateEntities() map[string][]string {
	type pair struct{ first, second string }
	type clash struct {
		count int
		// first and second are the topics.
		first, second string
		unique        bool
	}
	found := make(map[pair]*clash)
	note := func(a, b *announcement, unique bool) {
		p := pair{a.id, b.id}
		c := found[p]
		if c == nil {
			c = &clash{first: a.source, second: b.source}
			found[p] = c
		}
		c.count++
		c.unique = c.unique || unique
	}
	unique := make(map[uint64]*announcement)
	for _, id := range slices.Sorted(maps.Keys(s.devices)) {
		places, titles := make(map[uint64]*announcement), make(map[uint64]*announcement)
		for _, a := range s.devices[id] {
			for _, u := range a.unique {
				if first := unique[u]; first == nil {
					unique[u] = a
				} else if first != a {
					note(first, a, true)
				}
			}
			for _, place := range a.places {
				if first := places[place]; first == nil {
					places[place] = a
				} else if first != a && !sameMachine(first, a) {
					note(first, a, false)
				}
			}
			if first := titles[a.title]; first == nil && a.title != 0 {
				titles[a.title] = a
			} else if first != nil && !sameMachine(first, a) && separateConnections(first, a) {
				note(first, a, false)
			}
		}
	}
	all := make(map[string][]string)
	for p, c := range found {
		at := cut(c.first, maxText) + " and " + cut(c.second, maxText)
		what := fmt.Sprintf("an entity of it has the unique_id of one of %s", p.first)
		if c.count > 1 {
			what = fmt.Sprintf("%d entities of it have the unique_id of one of %s", c.count, p.first)
		}
		switch {
		case p.first == p.second && c.unique:
			all[p.second] = append(all[p.second], "entities of it are announced twice with one unique_id, as at "+at+
				": Home Assistant takes the first alone; if one is left over clear it (publish an empty retained message there), if these are two devices give each identifiers and a unique_id of its own")
		case p.first == p.second:
			all[p.second] = append(all[p.second], "two devices announce themselves as one, or one is left over, as at "+at+
				": give each an identifier of its own, as with its address, or clear what is left over (publish an empty retained message there)")
		default:
			all[p.second] = append(all[p.second], what+", as at "+at+": Home Assistant takes the first alone; make it unique, as with the address of the device")
		}
	}
	for _, texts := range all {
		slices.Sort(texts)
	}
	return all
}

// separateConnections reports whether announcements have topics as two connections do: each
// has availability of its own, for a connection has one will, or no first level of
// their topics is the same.
func separateConnections(a, b *announcement) bool {
	wills, roots := topicsOf(a)
	otherWills, otherRoots := topicsOf(b)
	return disjoint(wills, otherWills) || disjoint(roots, otherRoots)
}

// topicsOf returns the topics of availability of an announcement, and the first
// levels of all that it has.
func topicsOf(a *announcement) (wills, roots map[string]bool) {
	wills, roots = make(map[string]bool), make(map[string]bool)
	for i := range a.watched() {
		wills[i.topic] = true
	}
	for _, topic := range slices.Concat(a.state, a.command, slices.Collect(maps.Keys(wills))) {
		root, _, _ := strings.Cut(topic, "/")
		roots[root] = true
	}
	return wills, roots
}

// disjoint reports whether two sets have something each, and nothing in common.
func disjoint(a, b map[string]bool) bool {
	for s := range a {
		if b[s] {
			return false
		}
	}
	return len(a) > 0 && len(b) > 0
}

// sameMachine reports whether announcements share an address of a network card
// or radio.
func sameMachine(a, b *announcement) bool {
	return slices.ContainsFunc(a.keys, func(k key) bool {
		kind := string(k[:1])
		return (kind == keyMAC || kind == keyIEEE) && slices.Contains(b.keys, k)
	})
}
