package agent

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// The bounds of a command logs.
const (
	usualLines = 100
	maxLines   = 1000
	maxLogData = 256 << 10 // bytes of lines in one answer
	maxFollow  = time.Hour
)

// command answers a one-shot order, also one that cannot be read.
func (l *loop) command(m topics.Message, now time.Time) {
	c, err := topics.Decode[topics.Command](m.Topic, m.Payload)
	var data any
	if err != nil {
		l.misunderstood(err)
		c.Transaction = topics.TransactionOf(m.Payload)
	} else {
		data, err = l.obey(c, now)
	}
	reply := topics.Accept(c.Transaction, data)
	if err != nil {
		reply = topics.Refuse(c.Transaction, err)
	}
	l.publish(topics.DomainResponse, topics.Encode(reply))
	if err == nil && c.Action == topics.ActionResync {
		l.log.Info("joining again: the hub wants to agree anew on epoch, generation and session")
		l.reconnect()
	}
}

func (l *loop) obey(c topics.Command, now time.Time) (data any, err error) {
	switch c.Action {
	case topics.ActionReport:
		l.report(now)
		return nil, nil
	case topics.ActionResync:
		return nil, l.mayResync(c, now)
	case topics.ActionRestart, topics.ActionLogs:
	default:
		return nil, fmt.Errorf("there is no action %.40q: use %s, %s, %s or %s", c.Action, topics.ActionRestart, topics.ActionLogs, topics.ActionReport, topics.ActionResync)
	}
	if !topics.ValidName(c.Service) {
		return nil, fmt.Errorf("%s needs a service: %.70q is not a valid service name", c.Action, c.Service)
	}
	if c.Action == topics.ActionRestart {
		l.log.Info("restart asked for", "service", c.Service)
		return nil, l.supervisor.Restart(c.Service, now)
	}
	if c.Lines < 0 {
		return nil, errors.New("lines must be 0 or more")
	}
	n := usualLines
	if c.Lines > 0 {
		n = min(c.Lines, maxLines)
	}
	lines := l.logs.Last(c.Service, n)
	if len(lines) == 0 && !l.knows(c.Service) {
		return nil, fmt.Errorf("there is no service %q on domain %q", c.Service, l.config.Name)
	}
	if c.Follow > 0 {
		l.logs.Follow(c.Service, now, now.Add(min(maxFollow, c.Follow.Duration())))
		l.logAt = now.Add(followInterval)
	}
	return topics.LogLines{Lines: list(bounded(lines))}, nil
}

// resyncPause is the least between two resyncs: one that is sent again does not
// keep the agent from its hub.
const resyncPause = 5 * time.Second

// mayResync reports why a resync is not obeyed. It names the run of the agent
// that is meant, and does nothing but have it ask its hub for admission again,
// so an old one that is replayed changes nothing that is obeyed.
func (l *loop) mayResync(c topics.Command, now time.Time) error {
	switch {
	case c.Session != l.session:
		return errors.New("resync is for another run of this agent")
	case !l.resynced.IsZero() && now.Sub(l.resynced) < resyncPause:
		return fmt.Errorf("resync was obeyed less than %v ago", resyncPause)
	}
	l.resynced = now
	return nil
}

// report says again what is retained of this domain, for somebody who has just
// begun to listen.
func (l *loop) report(now time.Time) {
	if l.ready {
		l.publish(topics.DomainAvailability, []byte(topics.Online))
	}
	l.status = nil // the end of this turn says it
	l.metricsAt = now
}

func (l *loop) knows(service string) bool {
	return slices.ContainsFunc(l.catalog, func(r topics.CatalogRow) bool { return r.Service == service }) ||
		slices.ContainsFunc(l.supervisor.Instances(), func(i topics.Instance) bool { return i.Service == service })
}

// bounded drops the oldest lines of what would be too long an answer.
func bounded(lines []topics.LogLine) []topics.LogLine {
	size := 0
	for i := len(lines) - 1; i >= 0; i-- {
		if size += len(lines[i].Line) + 80; size > maxLogData {
			return lines[i+1:]
		}
	}
	return lines
}

// watching tells whether logs must be looked at: capped while a service may
// write, published while somebody follows.
func (l *loop) watching(now time.Time) bool {
	return len(l.supervisor.Groups()) > 0 || l.logs.Following(now)
}

func (l *loop) logEvery(now time.Time) time.Duration {
	switch {
	case l.logs.Flooded(now):
		return floodInterval
	case l.logs.Following(now):
		return followInterval
	}
	return l.every(logInterval)
}

func (l *loop) publishLogs(now time.Time) {
	for _, line := range l.logs.Poll(now) {
		if l.ready {
			l.conn.Publish(l.tree.Message(topics.Address{
				Kind: topics.DomainServiceLog, Domain: l.config.Name, Service: line.Service,
			}, topics.Encode(line.LogLine)))
		}
	}
}
