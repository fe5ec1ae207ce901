package agent

import (
	"time"

	"github.com/jmbarzee/dominion/config"
)

// reload is the event that the configuration was read again.
type reload struct {
	config config.Domain
	err    error
}

// reload takes over what can change while the agent runs, and logs what needs a
// restart.
func (l *loop) reload(c config.Domain, err error) {
	if err != nil {
		l.log.Error("configuration refused, the old one stays in force", "error", err)
		return
	}
	later := l.config.ChangedByRestart(c)
	l.config.TakeOver(c)
	l.poll(time.Now())
	l.log.Info("configuration reloaded", "file", c.File)
	for _, key := range later {
		l.log.Warn("changed in the configuration, but taken over by a restart of the agent only (it stops no service)", "key", key)
	}
}
