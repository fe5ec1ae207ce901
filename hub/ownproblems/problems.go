// Package ownproblems holds what is wrong with the hub itself and needs a person: a
// configuration that was not reloaded, a disk that takes nothing, certificates that end,
// a broker that lets everybody in, other hubs with the id or the name of this dominion,
// addresses that are in use. Each problem names its remedy.
//
// It does no I/O and knows no other part of the hub: what it cannot know is asked by
// functions. Package hub alone imports it, and calls it from its loop.
package ownproblems

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Options are what Problems are made of.
type Options struct {
	// ID and Name are those of the dominion.
	ID, Name     string
	Certificates []Certificate
	// HTTP are the addresses of HTTP that are in use by others, in words.
	HTTP []string
	// Control is why the control socket is not open, in words; "": it is, or is not
	// configured.
	Control string
	// Keys is why the hub has no keys, in words; "": it has, or is not to have any.
	Keys string
	// Listeners returns the addresses of the broker that are in use by others, in words;
	// nil: there are none.
	Listeners func() []string
	// NotPersisted returns why the last change is not on disk; nil: it is.
	NotPersisted func() error
	// OpenToAll returns the problem of a broker that lets everybody in, "" where it does
	// not.
	OpenToAll func() string
}

// Problems holds the problems. Make it with New.
type Problems struct {
	id, name     string
	certificates []*certificate
	http         []string
	control      string
	keys         string
	listeners    func() []string
	notPersisted func() error
	openToAll    func() string

	// reload is why the configuration was not reloaded, in words; "" where it was.
	reload    string
	conflicts []Conflict
}

// Conflict is another hub that announces itself by zeroconf with the id or the name of
// this dominion. ID and Name are checked by SetConflicts.
type Conflict struct {
	ID, Name  string
	Addresses []string
}

// New returns the problems of a hub that begins.
func New(o Options) *Problems {
	p := &Problems{id: o.ID, name: o.Name, http: o.HTTP, control: o.Control, keys: o.Keys, listeners: o.Listeners, notPersisted: o.NotPersisted, openToAll: o.OpenToAll}
	for _, c := range o.Certificates {
		p.certificates = append(p.certificates, &certificate{Certificate: c, warned: -1})
	}
	return p
}

// All returns the problems, in words.
func (p *Problems) All(now time.Time) (all []string) {
	if p.reload != "" {
		all = append(all, p.reload)
	}
	if err := p.notPersisted(); err != nil {
		all = append(all, "what was changed is not kept over a restart of the hub: "+err.Error())
	}
	for _, c := range p.certificates {
		if problem := c.problem(now); problem != "" {
			all = append(all, problem)
		}
	}
	if p.keys != "" {
		all = append(all, p.keys)
	}
	if p.control != "" {
		all = append(all, p.control)
	}
	if problem := p.openToAll(); problem != "" {
		all = append(all, problem)
	}
	for _, c := range p.conflicts {
		all = append(all, p.conflict(c))
	}
	if p.listeners != nil {
		all = append(all, p.listeners()...)
	}
	return append(all, p.http...)
}

// SetReload notes why the configuration was not reloaded, nil where it was, and returns
// that in words.
func (p *Problems) SetReload(err error) string {
	p.reload = ""
	if err != nil {
		p.reload = "the configuration was not reloaded, the old one stays in force: " + err.Error()
	}
	return p.reload
}

// SetHTTP replaces the addresses of HTTP that are in use by others, in words.
func (p *Problems) SetHTTP(all []string) { p.http = all }

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
