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
		l.reports.Invalid(err, now)
		c.Transaction = topics.TransactionOf(m.Payload)
	} else {
		data, err = l.execute(c, now)
	}
	reply := topics.Accept(c.Transaction, data)
	if err != nil {
		reply = topics.Refuse(c.Transaction, err)
	}
	l.respond(reply)
	if err == nil && c.Action == topics.ActionResync {
		l.log.Info("joining again: the hub requested a resync of epoch, generation and session")
		l.link.Reconnect()
	}
}

// respond publishes the response to a command.
func (l *loop) respond(reply topics.Reply) {
	l.connection.Publish(l.tree.Message(topics.Address{Kind: topics.DomainResponse, Domain: l.config.Name}, l.member.signed(l.log, topics.DomainResponse, topics.Encode(reply))))
}

// execute carries out a command and returns the data of its response.
func (l *loop) execute(c topics.Command, now time.Time) (data any, err error) {
	switch c.Action {
	case topics.ActionReport:
		l.reports.Repeat(now)
		return nil, nil
	case topics.ActionResync:
		return nil, l.orders.AllowResync(c.Session, now)
	case topics.ActionDrain, topics.ActionUndrain:
		l.setDraining(c.Action == topics.ActionDrain, now)
		return nil, nil
	case topics.ActionRestart, topics.ActionLogs:
	default:
		return nil, fmt.Errorf("there is no action %.40q: use %s, %s, %s, %s, %s or %s", c.Action, topics.ActionRestart, topics.ActionLogs, topics.ActionReport, topics.ActionResync, topics.ActionDrain, topics.ActionUndrain)
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
	}
	return topics.LogLines{Lines: list(limitSize(lines))}, nil
}

// hasService reports whether a service is on disk or runs.
func (l *loop) hasService(service string) bool {
	return l.inventory.Has(service) ||
		slices.ContainsFunc(l.instances(), func(i topics.Instance) bool { return i.Service == service })
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
