package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/agent/application"
	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// showDelay is how long a domain that has a token, or is open, waits to be adopted by
// that, before it shows its code.
const showDelay = 30 * time.Second

// Apply begins an application; upgrade is the id of the only dominion that is asked, which the
// domain joined before it had a key.
func (m *membership) Apply(upgrade string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	stranger := ""
	if h, adopted := m.home(); upgrade != "" {
		// It is the domain of that dominion already.
	} else if adopted {
		stranger = h.Name
		if stranger == "" {
			stranger = config.DefaultName
		}
	} else if m.o.Remembered.ID != "" {
		stranger = m.o.Remembered.Name
	}
	app, err := application.New(application.Options{
		Applicant: adoption.ApplicantOptions{
			Home: m.returning(), Key: m.domain.Key, Protocol: topics.Protocol, ID: m.o.ID, Name: m.o.Config.Name, Recipient: m.secrets.Recipient(),
			Session: m.o.Session, Upgrade: upgrade, Stranger: stranger, Address: m.o.Address(), Model: facts.Model(),
		},
		Dominion: m.o.Config.Dominion, Open: m.o.Config.Adoption == config.AdoptionOpen,
	})
	if err != nil {
		return err
	}
	m.application, m.applied = app, false
	if upgrade != "" {
		m.showAt = time.Time{} // no code is needed
		return nil
	}
	m.tokens.look(time.Now(), "")
	app.SetToken(m.tokens.current())
	app.SetOpen(m.tokens.openUntil)
	m.showAt = time.Now()
	if m.tokens.current() != nil || app.IsOpen() {
		m.showAt = m.showAt.Add(showDelay)
	}
	return nil
}

// returning returns the dominion that the domain belongs to, which may have forgotten it: a hub that was
// restored from a backup. nil: it belongs to none, or has no certificate of it.
func (m *membership) returning() *adoption.Home {
	if !m.domain.Adopted() || m.domain.Chain == nil {
		return nil
	}
	return &adoption.Home{Trust: m.domain.Trust, Verifier: m.verifier, Chain: m.domain.Chain}
}

// End ends the application.
func (m *membership) End() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.application = nil
	clear(m.reached)
	m.unshow()
}

// Topics returns where hubs are asked, and where they answer.
func (m *membership) Topics() (question, answer string) {
	return adoption.Topics(topics.NewTree(m.o.Config.TopicPrefix), m.keyHash())
}

// keyHash returns the hash of the domain's key, which never changes.
func (m *membership) keyHash() string {
	hash, err := m.domain.KeyHash()
	if err != nil {
		m.o.Log.Error("the key of this domain cannot be encoded", "error", err)
	}
	return hash
}

// errNotAsking means that there is no application.
var errNotAsking = errors.New("this domain does not ask for adoption")

// Question returns what hubs are asked with.
func (m *membership) Question() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.application == nil {
		return nil, errNotAsking
	}
	return m.application.Question()
}

// Addresses returns the addresses of the token.
func (m *membership) Addresses() [][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tokens.addresses()
}

// Changed holds a value when the question or the addresses have changed.
func (m *membership) Changed() <-chan struct{} { return m.changed }

// change wakes who waits for Changed.
func (m *membership) change() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Asks notes that the domain asks at a URL, or why it cannot.
func (m *membership) Asks(url string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reached[url] = err
}

// Receive takes what a hub answered.
func (m *membership) Receive(url string, msg topics.Message) (out []link.ToHub, adopted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.application == nil {
		return nil, false
	}
	now := time.Now()
	messages, done, err := m.application.Receive(msg.Topic, url, msg.Payload, now)
	m.report(err)
	m.derive()
	if done == nil {
		if refusal := m.application.Refusal(); refusal != "" {
			m.finish(outcome{refused: refusal})
			if m.screen != "" {
				m.showOnScreen()
			}
		}
		return toHub(messages), false
	}
	if err := m.adopt(*done, url); err != nil {
		m.report(fmt.Errorf("cannot store the adoption: %w", err))
		return nil, false
	}
	confirmation, err := m.application.Confirmation()
	m.report(err)
	return append(toHub(messages), link.ToHub{URL: url, Payload: confirmation}), true
}

// toHub returns messages as the link sends them.
func toHub(messages []application.Message) []link.ToHub {
	var out []link.ToHub
	for _, m := range messages {
		out = append(out, link.ToHub{URL: m.To, Payload: m.Payload})
	}
	return out
}

// maxReports is how often in a minute it is logged that an answer was not taken.
const maxReports = 10

// report logs why an answer was not taken, unless it equals the last one. Any program in the
// network can send answers: it must not fill the disk.
func (m *membership) report(err error) {
	if err == nil || err.Error() == m.logged {
		return
	}
	now := time.Now()
	m.reports.Expire(now)
	if !m.reports.Allow("", maxReports, now) {
		return
	}
	m.logged = err.Error()
	m.o.Log.Warn(m.logged)
}

// derive computes the key of the code if a hub has answered by it, in another goroutine:
// it takes seconds on a small machine.
func (m *membership) derive() {
	if m.deriving || m.codeKey != nil || !m.application.WaitsForCodeKey() {
		return
	}
	public, err := identity.EncodePublicKey(&m.domain.Key.PublicKey)
	if err != nil {
		m.report(err)
		return
	}
	m.deriving = true
	code := m.code
	m.workers.Go(func() {
		key := code.Key(public)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.deriving = false
		if code == m.code {
			m.codeKey = key
		}
		m.change()
	})
}

// Expire does what is due: it takes the answers that waited for the key of the code,
// looks for tokens, and shows the code.
func (m *membership) Expire() []link.ToHub {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.application == nil {
		return nil
	}
	now := time.Now()
	var out []application.Message
	if m.codeKey != nil && !m.applied {
		m.applied = true
		more, err := m.application.SetCodeKey(m.codeKey, now)
		m.report(err)
		out = append(out, more...)
	}
	m.derive()
	if m.tokens.look(now, m.application.Refusal()) || m.refreshed {
		m.refreshed = false
		m.application.SetToken(m.tokens.current())
		m.application.SetOpen(m.tokens.openUntil)
		m.change()
	}
	more, err := m.application.Expire(now)
	m.report(err)
	out = append(out, more...)
	if !m.showAt.IsZero() && !now.Before(m.showAt) {
		m.showAt = time.Time{}
		m.show()
	}
	return toHub(out)
}

// Next returns when Expire has something to do.
func (m *membership) Next() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.application == nil {
		return time.Time{}
	}
	next := m.tokens.next
	for _, at := range []time.Time{m.application.Next(), m.showAt} {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next
}

// adopt stores an adoption. What is pinned is stored last: after a power cut before that
// the domain waits, or belongs to whom it belonged before.
func (m *membership) adopt(a adoption.Adopted, url string) error {
	g, err := topics.Decode[topics.Grant]("the grant", a.Grant)
	if err != nil {
		return err
	}
	if g.Dominion != a.Trust.Dominion {
		return fmt.Errorf("the grant is of dominion %.64q, the authority of %.64q", g.Dominion, a.Trust.Dominion)
	}
	var homes []home // that of now stays until another one is pinned
	for _, h := range m.homes {
		if h.Dominion.ID == m.domain.Trust.Dominion && h.Dominion.ID != g.Dominion {
			homes = append(homes, h)
		}
	}
	homes = append(homes, home{link.Dominion{ID: g.Dominion, Name: g.Name}, url, locate.Encrypted(url), a.Method})
	if err := atomicfile.WriteJSON(m.domain.Store().Path(homesFile), homes); err != nil {
		return err
	}
	if err := m.domain.Pin(a.Trust, a.Chain); err != nil {
		return err
	}
	m.homes = homes
	if err := m.trustChanged(); err != nil {
		return err
	}
	if m.o.Pinned != nil {
		m.o.Pinned() // no join sees the adoption before the loop: m.mu is locked
	}
	m.o.Log.Info("adopted", "dominion", g.Name, "id", g.Dominion, "by", string(a.Method), "hub", url)
	m.tokens.used(a.Method == adoption.ByToken)
	if err := m.replaceCode(); err != nil {
		m.o.Log.Warn("the code of this domain could not be replaced", "error", err)
	}
	m.unshow()
	m.finish(outcome{joined: g.Name})
	return nil
}

// replaceCode makes a new code.
func (m *membership) replaceCode() error {
	code, err := adoption.ReplaceCode(m.domain.Store().Path(adoption.CodeFile))
	if err != nil {
		return err
	}
	m.code, m.codeKey, m.applied = code, nil, false
	if m.application != nil {
		_, err = m.application.SetCodeKey(nil, time.Now())
	}
	return err
}
