package agent

import (
	"fmt"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// Accept returns how far the domain trusts its dominion.
func (m *membership) Accept() string { return *m.accept.Load() }

// acceptNow returns how far the domain trusts its dominion: as its configuration says, and
// without that as far as people have decided. Nobody has for one that joined before it had a
// key: it goes on as before.
func (m *membership) acceptNow() string {
	accept := m.o.Config.Accept
	if !m.o.Config.AcceptIsDefault || m.domain.Adopted() && !m.upgraded() {
		return accept
	}
	return config.AcceptEnvironment
}

// upgraded reports whether the domain joined its dominion before it had a key.
func (m *membership) upgraded() bool {
	for _, h := range m.homes {
		if h.Dominion.ID == m.domain.Trust.Dominion {
			return h.Method == adoption.ByUpgrade
		}
	}
	return false
}

// accept returns how far the domain trusts its dominion.
func (l *loop) accept() string {
	switch {
	case l.member != nil:
		return l.member.Accept()
	case l.config.AcceptIsDefault:
		return config.AcceptEnvironment // without a key it gets no secrets
	}
	return l.config.Accept
}

// adopted takes over that a dominion has adopted the domain, and reports what the domain does
// not accept of one that it joined before it had a key.
func (l *loop) adopted() {
	accept := l.accept()
	if !l.config.AcceptIsDefault || accept == l.config.Accept {
		return
	}
	text := fmt.Sprintf("this domain joined its dominion before it had a key, so it accepts what it did before, and no secrets (accept = %q): write accept = %q in domain.toml to change that", accept, config.AcceptDeploy)
	l.log.Warn(text)
	l.acceptsLess = text
}

// reportAccept reports what adopted has found. It waits for the next join: the connection by
// which the domain was adopted is ending.
func (l *loop) reportAccept() {
	if l.acceptsLess != "" {
		l.reports.Event(topics.DomainProblem, "", l.acceptsLess)
		l.acceptsLess = ""
	}
}
