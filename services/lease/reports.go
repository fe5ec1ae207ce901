package lease

// report is the last status of a domain. A status of a run that has ended may come after
// one of the next run, and the other way round: the run that sends heartbeats counts.
type report struct {
	// session is that of the last heartbeat; "": none has come.
	session string
	// current is the status of that run; nil: none has come.
	current *Status
	// other is the status of another run.
	other *Status
	// lost reports that the domain is lost: current does not describe it now.
	lost bool
}

// reported returns the current status of a domain; nil: there is none.
func (t *Table) reported(domain string) *Status {
	if w := t.reports[domain]; w != nil {
		return w.current
	}
	return nil
}

func (t *Table) reportOf(domain string) *report {
	if t.reports[domain] == nil {
		t.reports[domain] = new(report)
	}
	return t.reports[domain]
}

// noteSession notes which run of the domain sends heartbeats.
func (t *Table) noteSession(run Run) {
	w := t.reportOf(run.Domain)
	w.lost = false
	if w.session == run.Session {
		return
	}
	w.session = run.Session
	for _, s := range []*Status{w.current, w.other} {
		if s != nil && s.Run == run {
			w.current, w.other = s, w.current
			return
		}
	}
	w.current, w.other = nil, w.current
}
