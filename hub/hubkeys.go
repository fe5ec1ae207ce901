package hub

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// openKeys opens the keys of the dominion and the vault of its secrets, and sets what the hub says of them. Without
// them, as a key is lost or damaged, the hub serves its broker, and adopts and signs
// nothing.
func (s Service) openKeys(state *store.Store, o *Options) (*keys.Keys, error) {
	s.openSecrets(o)
	k, err := keys.Open(keys.Options{
		DataDir: s.Config.DataDir, Dominion: state.ID(), Name: s.Config.Name,
		Lifetime:      s.Config.Identity.Lifetime.Duration(),
		AuthorityCert: s.Config.Identity.AuthorityCert, AuthorityKey: s.Config.Identity.AuthorityKey,
		Known: state.HasKeys(), Names: s.names, Log: s.Log,
	})
	if lost := (*identity.KeyError)(nil); errors.As(err, &lost) {
		o.KeyProblem = err.Error() + "; until then the hub adopts and signs nothing, and has no certificate of its own"
		s.Log.Error(o.KeyProblem)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !state.HasKeys() {
		state.Change(func(s *store.State) { s.Keys = true })
		state.Save(time.Now())
	}
	o.Keys = k
	return k, nil
}

// names returns how the hub is reached: the machine's names, and the hosts that it
// listens at.
func (s Service) names() (identity.Names, error) {
	var hosts []string
	for _, at := range []string{s.Config.Broker.Listen, s.Config.Broker.ListenTLS, s.Config.Broker.ListenWSS, s.Config.HTTP.ListenTLS} {
		if host, _, err := net.SplitHostPort(at); err == nil && host != "" {
			hosts = append(hosts, host)
		}
	}
	return identity.LocalNames(hosts...)
}

// forClients returns the identity of the broker's TLS listeners; nil without keys.
func forClients(k *keys.Keys) broker.Identity {
	if k == nil {
		return nil
	}
	return k.ForClients()
}

// forBrowsers returns the identity of the HTTPS listener; nil without keys.
func forBrowsers(k *keys.Keys) broker.Identity {
	if k == nil {
		return nil
	}
	return k.ForBrowsers()
}

// publishCertificate publishes the hub's certificate and the authority's, and the key list.
func (h *Hub) publishCertificate() {
	if h.keys == nil {
		return
	}
	h.pub.Retain(h.tree.Hub(topics.HubCertificate), topics.Encode(h.keys.Published()))
	h.pub.Retain(h.tree.Hub(topics.HubKeys), h.keys.SignedKeyList())
}

// renewed takes that the hub's certificate was made anew.
func (h *Hub) renewed(expires time.Time) {
	h.events.Add(topics.Event{Type: topics.CertificateRenewed, Message: "the hub's certificate was renewed; it expires on " + expires.UTC().Format(time.DateOnly)})
	h.publishCertificate()
	h.updateRegistry() // the machine may have other addresses
}

// CertificateRenewed tells the hub that its certificate was made anew.
func (h *Hub) CertificateRenewed(expires time.Time) { h.box.Put(certificateRenewed(expires)) }

// NewIdentity sets the keys in a data_dir aside, so that the next start makes new ones:
// the hub is then a stranger to its domains. The hub must not run.
func NewIdentity(dataDir string, out io.Writer) error {
	lock, err := store.Lock(dataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	state, err := store.Open(dataDir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	aside, err := identity.SetAside(dataDir, time.Now())
	if err != nil {
		return err
	}
	state.Change(func(s *store.State) { s.Keys = false })
	if saved := state.Save(time.Now()); saved.Failed != nil {
		return saved.Failed
	}
	if aside != "" {
		_, err = fmt.Fprintf(out, "the former keys are in %s; start the hub, and adopt each domain again: `domain code` there, `dominionctl adopt NAME CODE` here\n", aside)
	}
	return err
}
