package ownproblems

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// MaxConflictAddresses bounds how many addresses of a conflict are named.
const MaxConflictAddresses = 4

// Conflict is another hub that announces itself by zeroconf with the id or the name of
// this dominion. ID and Name are checked by SetConflicts.
type Conflict struct {
	ID, Name  string
	Addresses []string
}

// SetConflicts replaces the conflicts: those with another id and another name are none.
// It returns what is news: each conflict is that once, however its addresses change.
func (p *Problems) SetConflicts(all []Conflict) (news []string) {
	var valid []Conflict
	for _, c := range all {
		if topics.ValidName(c.Name) && (c.ID == p.id || c.Name == p.name) {
			valid = append(valid, c)
		}
	}
	same := func(list []Conflict, c Conflict) bool {
		return slices.ContainsFunc(list, func(o Conflict) bool { return o.ID == c.ID && o.Name == c.Name })
	}
	for _, c := range valid {
		if !same(p.conflicts, c) {
			news = append(news, p.conflict(c))
		}
	}
	for _, c := range p.conflicts {
		if !same(valid, c) {
			news = append(news, fmt.Sprintf("another hub with the %s of this dominion does not answer any more", p.shared(c)))
		}
	}
	p.conflicts = valid
	return news
}

// shared names what a conflict has in common with this dominion.
func (p *Problems) shared(c Conflict) string {
	if c.ID == p.id {
		return "id"
	}
	return "name"
}

// conflict returns a conflict in words, with its remedy.
func (p *Problems) conflict(c Conflict) string {
	at := strings.Join(c.Addresses, ", ")
	if c.ID == p.id {
		return fmt.Sprintf("another hub announces the id of this dominion, %s, at %s: domains follow either of them; stop one of the two, and if its data_dir is a copy, start it with an empty one, which gives it an id of its own", c.ID, at)
	}
	return fmt.Sprintf("another dominion announces the name %q at %s, with id %.40q: zeroconf shows one of the two only; give one of them another name in its dominion.toml", c.Name, at, c.ID)
}
