package simulation

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// onDisk is the start command that a machine took last.
func (m *machine) onDisk() (c topics.StartCommand, ok bool) {
	b, err := os.ReadFile(filepath.Join(m.data(), "command.json"))
	return c, err == nil && json.Unmarshal(b, &c) == nil
}

// restored takes note of a disk that has become an older one.
func (l *laws) restored(m *machine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.stored, m.name)
}

// started judges a start of a process: "a domain runs at most one instance of
// a service", and "commands to execute come only from" the last start command.
func (l *laws) started(m *machine, p *process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.home.logf("%s starts %s", m.name, p.service)
	if n := m.running(p.service); n > 0 {
		l.violated("at most one process of a service on a domain", "%s runs %d times on %s and is started once more", p.service, n, m.name)
	}
	c, ok := m.onDisk()
	_, revision, _ := strings.Cut(p.token, ".")
	if c.Services[p.service].Exclusive {
		l.exclusive(m, p)
	}
	if spec, is := c.Services[p.service]; !ok || !is || spec.Revision != revision {
		l.violated("only what is ordered is started", "%s of revision %s is started on %s, which was ordered %s", p.service, revision, m.name, slices.Sorted(maps.Keys(c.Services)))
	}
	is := position{c.Epoch, c.Generation}
	if was, seen := l.stored[m.name]; seen && is.before(was) {
		l.violated("nothing older is obeyed", "%s obeys %v after %v", m.name, is, was)
	}
	l.stored[m.name] = is
}

// exclusive: "never two at once, even across a network split".
func (l *laws) exclusive(m *machine, p *process) {
	for _, other := range l.home.all() {
		if n := other.running(p.service); n > 0 {
			l.violated("an exclusive service never runs twice", "%s runs on %s and is started on %s", p.service, other.name, m.name)
		}
	}
}

// stopped checks an agent's signal to a process: a healthy one is ended
// only where the start command does not hold it any more, holds another
// revision, or where somebody asked for a restart.
func (l *laws) stopped(m *machine, p *process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.home.logf("%s stops %s", m.name, p.service)
	m.mu.Lock()
	ill := m.ills[p.service]
	m.mu.Unlock()
	c, ok := m.onDisk()
	spec, is := c.Services[p.service]
	_, revision, _ := strings.Cut(p.token, ".")
	asked := l.restarted[p.service]
	switch {
	case !ok || !is || spec.Revision != revision || ill != illness{}:
	case spec.Exclusive: // its lease may be over, or its guard gone, or its agent stops
	case !asked.IsZero() && time.Since(asked) < time.Hour:
	default:
		l.violated("nothing healthy is restarted without cause", "%s is stopped on %s, where it is ordered so", p.service, m.name)
	}
}
