// Package ownproblems holds what is wrong with the hub itself and needs a person: a
// configuration that was not reloaded, a disk that takes nothing, certificates that end,
// a broker that lets everybody in, other hubs with the id or the name of this dominion,
// addresses that are in use. Each problem names its remedy.
//
// It does no I/O and knows no other part of the hub: what it cannot know is asked by
// functions. Package hub alone imports it, and calls it from its loop.
package ownproblems

import "time"

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
	// Secrets is why the hub stores no secrets, in words; "": it does.
	Secrets string
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
	secrets      string
	listeners    func() []string
	notPersisted func() error
	openToAll    func() string

	// reload is why the configuration was not reloaded, in words; "" where it was.
	reload    string
	conflicts []Conflict
}

// New returns the problems of a hub that begins.
func New(o Options) *Problems {
	p := &Problems{id: o.ID, name: o.Name, http: o.HTTP, control: o.Control, keys: o.Keys, secrets: o.Secrets, listeners: o.Listeners, notPersisted: o.NotPersisted, openToAll: o.OpenToAll}
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
	if p.secrets != "" {
		all = append(all, p.secrets)
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
