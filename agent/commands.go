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
	defaultLines = 100
	maxLines     = 1000
	maxLogData   = 256 << 10 // bytes of lines in one answer
	maxFollow    = time.Hour
)

// command carries out a command and publishes the response, also to one that
// cannot be read.
func (l *loop) command(m topics.Message, now time.Time) {
	c, err := topics.Decode[topics.Command](m.Topic, m.Payload)
	var data any
	if err != nil {
		l.reportInvalid(err)
		c.Transaction = topics.TransactionOf(m.Payload)
	} else {
		data, err = l.execute(c, now)
	}
	reply := topics.Accept(c.Transaction, data)
	if err != nil {
		reply = topics.Refuse(c.Transaction, err)
	}
	l.publish(topics.DomainResponse, topics.Encode(reply))
	if err == nil && c.Action == topics.ActionResync {
		l.log.Info("joining again: the hub requested a resync of epoch, generation and session")
		l.reconnect()
	}
}

// execute carries out a command and returns the data of its response.
func (l *loop) execute(c topics.Command, now time.Time) (data any, err error) {
	switch c.Action {
	case topics.ActionReport:
		l.republish(now)
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
		l.log.Info("restart requested", "service", c.Service)
		return nil, l.supervisor.Restart(c.Service, now)
	}
	if c.Lines < 0 {
		return nil, errors.New("lines must be 0 or more")
	}
	n := defaultLines
	if c.Lines > 0 {
		n = min(c.Lines, maxLines)
	}
	lines := l.logs.Last(c.Service, n)
	if len(lines) == 0 && !l.hasService(c.Service) {
		return nil, fmt.Errorf("there is no service %q on domain %q", c.Service, l.config.Name)
	}
	if c.Follow > 0 {
		l.logs.Follow(c.Service, now, now.Add(min(maxFollow, c.Follow.Duration())))
		l.logAt = now.Add(followInterval)
	}
	return topics.LogLines{Lines: list(limitSize(lines))}, nil
}

// resyncPause is the least time between two resyncs: one that is sent again and
// again does not keep the agent from its hub.
const resyncPause = 5 * time.Second

// mayResync returns why a resync is refused; nil if it is not. A resync names the
// session that is meant, and only has the agent join its hub again, so an old one
// that is replayed does not change which start command is in force.
func (l *loop) mayResync(c topics.Command, now time.Time) error {
	if c.Session != l.session {
		return errors.New("resync is for another run of this agent")
	}
	if !l.lastResync.IsZero() && now.Sub(l.lastResync) < resyncPause {
		return fmt.Errorf("resync was obeyed less than %v ago", resyncPause)
	}
	l.lastResync = now
	return nil
}

// republish publishes the retained state of this domain again, for a hub that
// requests it.
func (l *loop) republish(now time.Time) {
	if l.ready {
		l.publish(topics.DomainAvailability, []byte(topics.Online))
	}
	l.status = nil // tick publishes it
	l.metricsAt = now
}

func (l *loop) hasService(service string) bool {
	return slices.ContainsFunc(l.catalog, func(r topics.CatalogRow) bool { return r.Service == service }) ||
		slices.ContainsFunc(l.supervisor.Instances(), func(i topics.Instance) bool { return i.Service == service })
}

// limitSize drops the oldest lines beyond the size of a response.
func limitSize(lines []topics.LogLine) []topics.LogLine {
	size := 0
	for i := len(lines) - 1; i >= 0; i-- {
		if size += len(lines[i].Line) + 80; size > maxLogData {
			return lines[i+1:]
		}
	}
	return lines
}

// mustPollLogs reports whether logs must be polled: to cap them while a service may
// write, and to publish them while a client follows them.
func (l *loop) mustPollLogs(now time.Time) bool {
	return len(l.supervisor.Groups()) > 0 || l.logs.Following(now)
}

func (l *loop) logPollInterval(now time.Time) time.Duration {
	if l.logs.Flooded(now) {
		return floodInterval
	}
	if l.logs.Following(now) {
		return followInterval
	}
	return l.atLeast(logInterval)
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
