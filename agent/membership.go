package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/agent/application"
	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/identity/secrets"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/internal/ratelimit"
)

// membershipOptions are what a membership works with.
type membershipOptions struct {
	Config      config.Domain
	ID, Session string
	// Remembered is the dominion that the domain joined last, from its memory.
	Remembered link.Dominion
	// Adopted is set if the domain was adopted before: its key is lost if it is missing.
	Adopted bool
	Address func() string
	// VerifiedHub takes a hub that a handshake of TLS has verified.
	VerifiedHub func(identity.Peer)
	// Pinned is called when the domain has pinned an authority, before any hub is verified by it.
	Pinned func()
	// IssueFile shows the code on the login screen; "": it is not shown there.
	IssueFile string
	// Unit reports that the agent is a unit of systemd.
	Unit bool
	// TokenFiles are tried after the token of the configuration. Those of OnceFiles
	// among them are removed after use.
	TokenFiles, OnceFiles []string
	Log                   *slog.Logger
}

// membership is whom this domain belongs to: its key, what it has pinned, and, while it
// wants to be adopted, its application. It reads and writes the files of
// data_dir/identity. The goroutines of the link and of commands use it.
type membership struct {
	o membershipOptions

	mu     sync.Mutex
	domain *identity.Domain
	// secrets opens what hubs have sealed to this domain.
	secrets *secrets.Identity
	// verifier is that of domain.Trust; pinned is the same for the agent's loop, nil before an
	// adoption.
	verifier identity.Verifier
	pinned   atomic.Pointer[identity.Verifier]
	// last is the last start command that was obeyed, as it was signed; nil: none.
	last atomic.Pointer[lastOrder]
	// accept is how far the domain trusts its dominion, for the agent's loop.
	accept atomic.Pointer[string]
	// homes are where hubs adopted the domain, newest last.
	homes   []home
	renewal *identity.Renewal

	code adoption.Code
	// codeKey is the key of the code; nil: not computed. deriving is set while it is.
	codeKey  adoption.CodeKey
	deriving bool
	workers  sync.WaitGroup

	// application is what is asked; nil: nothing.
	application *application.Application
	// applied is set when the application has the key of the code.
	applied bool
	// refreshed is set when the application must be given what a command has changed.
	refreshed bool
	tokens    tokens
	// showAt is when the code is shown; zero: it was.
	showAt time.Time
	// screen is what the login screen shows; "": nothing.
	screen string
	// reached are the addresses where the domain asks, or why it cannot.
	reached map[string]error
	// logged is what was logged last of an answer.
	logged  string
	reports *ratelimit.Window
	changed chan struct{}
	waiters []chan outcome
}

// home is where a hub adopted the domain.
type home struct {
	Dominion  link.Dominion `json:"dominion"`
	URL       string        `json:"hub"`
	Encrypted bool          `json:"encrypted,omitempty"`
	// Method is by what; "": by a version that did not store it.
	Method adoption.Method `json:"method,omitempty"`
}

// The files of data_dir/identity that are the agent's own.
const homesFile = "homes.json"

// openMembership reads the keys of the domain, and makes them at the first start.
func openMembership(o membershipOptions) (*membership, error) {
	m := &membership{o: o, changed: make(chan struct{}, 1), reports: ratelimit.New(maxReports), reached: make(map[string]error)}
	var err error
	if m.domain, err = identity.OpenDomain(o.Config.DataDir, o.Adopted); err != nil {
		return nil, err
	}
	if m.secrets, err = secrets.OpenIdentity(m.domain.Store(), m.domain.Adopted()); err != nil {
		return nil, err
	}
	if m.code, err = adoption.OpenCode(m.domain.Store().Path(adoption.CodeFile)); err != nil {
		return nil, err
	}
	if m.homes, _, err = atomicfile.ReadJSON[[]home](m.domain.Store().Path(homesFile), o.Log); err != nil {
		return nil, err
	}
	m.tokens = tokens{dir: m.domain.Store(), file: o.Config.TokenFile, more: o.TokenFiles, once: o.OnceFiles, log: o.Log}
	return m, m.trustChanged()
}

// trustChanged takes over what domain.Trust and domain.Chain are now.
func (m *membership) trustChanged() error {
	m.renewal = nil
	accept := m.acceptNow()
	m.accept.Store(&accept)
	if !m.domain.Adopted() {
		return nil
	}
	verifier, err := m.domain.Trust.Verifier(nil)
	if err != nil {
		return err
	}
	// A hub of the list is known: it is accepted after the end of its certificate.
	verifier.Known = func(_ identity.Subject, key string) bool { return verifier.Keys != nil && verifier.Keys.HasHub(key) }
	m.verifier = verifier
	m.pinned.Store(&verifier)
	switch {
	case m.domain.Chain == nil:
	case m.domain.CertificateCounts(verifier):
		m.renewal = identity.NewRenewal(identity.Names{}, m.domain.Chain[0])
	default: // of an authority before
		m.renewal = identity.NewRenewal(identity.Names{})
	}
	return nil
}

// close waits for what is computed.
func (m *membership) close() { m.workers.Wait() }

// Home returns the dominion that has adopted the domain.
func (m *membership) Home() (link.Home, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.home()
}

func (m *membership) home() (link.Home, bool) {
	if !m.domain.Adopted() {
		return link.Home{}, false
	}
	id := m.domain.Trust.Dominion
	for _, h := range slices.Backward(m.homes) {
		if h.Dominion.ID == id {
			return link.Home{Dominion: h.Dominion, URL: h.URL, Encrypted: h.Encrypted}, true
		}
	}
	h := link.Home{Dominion: link.Dominion{ID: id}}
	if m.o.Remembered.ID == id {
		h.Name = m.o.Remembered.Name
	}
	return h, true
}

// OpenSecret opens a secret of a service that the dominion of this domain has sealed. The
// agent's loop calls it: it waits for no file.
func (m *membership) OpenSecret(service, name, sealed string) (string, error) {
	pinned := m.pinned.Load()
	if pinned == nil {
		return "", fmt.Errorf("cannot open secret %s of service %s: this domain is not adopted", name, service)
	}
	if accept := m.Accept(); accept == config.AcceptLocal || accept == config.AcceptEnvironment {
		return "", fmt.Errorf("the secret %s is not given to a service here (accept = %q in domain.toml): write accept = %q to let the dominion", name, accept, config.AcceptDeploy)
	}
	value, err := m.secrets.Open(secrets.Context{Dominion: pinned.Dominion, Domain: m.o.ID, Service: service, Name: name}, sealed)
	return string(value), err
}

// Word returns the word that the domain shows at its next join.
func (m *membership) Word() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.domain.Trust.Word
}

// StoreWord stores the word that the hub gave at a join.
func (m *membership) StoreWord(word string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.domain.Adopted() {
		return nil
	}
	trust := m.domain.Trust
	trust.Word = word
	if err := m.domain.SetTrust(trust); err != nil {
		return fmt.Errorf("cannot store the word of the last join: %w", err)
	}
	return nil
}

// waitWithoutKey is what the link of a domain does whose key is broken: it neither asks
// nor joins until ctx ends, and what runs runs on.
func waitWithoutKey(ctx context.Context, log *slog.Logger, err error) {
	log.Error("this domain has no key that it can use: it joins no hub; services run on", "error", err)
	<-ctx.Done()
}
