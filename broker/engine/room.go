package engine

import (
	"slices"
	"time"
)

// thin ends sessions of clients that are away where there are as many as
// there may be, and returns them, to be dismissed. It takes from the user who
// has most of them those that are away longest: a program that makes up a client
// id each time it connects loses its own, not those of others. The caller holds
// Engine.mu.
func (e *Engine) thin() []*session {
	if len(e.sessions) < e.limits.MaxSessions {
		return nil
	}
	type away struct {
		s     *session
		since time.Time
	}
	byUser := make(map[string][]away)
	most := ""
	for _, s := range e.sessions {
		s.mu.Lock()
		if s.conn == nil && !s.gone && !s.left.IsZero() { // zero: it is about to be connected
			user := s.client.Load().User
			byUser[user] = append(byUser[user], away{s, s.left})
			if len(byUser[user]) > len(byUser[most]) {
				most = user
			}
		}
		s.mu.Unlock()
	}
	all := byUser[most]
	slices.SortFunc(all, func(a, b away) int { return a.since.Compare(b.since) })
	// some at once, as this looks at every session
	all = all[:min(len(all), 1+e.limits.MaxSessions/100)]
	if len(all) == 0 {
		return nil
	}
	e.log.Warn("more sessions than broker.limits has room for: those of clients that are away longest are ended, with what is queued for them",
		"user", most, "ended", len(all), "client", all[0].s.id)
	ended := make([]*session, len(all))
	for i, one := range all {
		ended[i] = one.s
		one.s.remove()
		e.stats.expired.Add(1)
	}
	return ended
}
