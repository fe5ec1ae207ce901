package hub

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/secrets"
	"github.com/jmbarzee/dominion/topics"
)

// openSecrets opens the vault of the secrets. One whose key is lost has what was sealed
// before alone: what runs with a secret goes on.
func (s Service) openSecrets(o *Options) {
	files, err := identity.OpenStore(s.Config.DataDir)
	if err == nil {
		o.Secrets, err = secrets.OpenVault(files, files.Path(secrets.VaultFile), s.Log)
	}
	if lost := (*identity.KeyError)(nil); errors.As(err, &lost) && o.Secrets != nil {
		err = fmt.Errorf("cannot read %s: %w: restore it from a backup, or remove %s and set the secrets again", lost.Path, lost.Err, files.Path(secrets.VaultFile))
	}
	if err != nil {
		o.SecretProblem = err.Error() + "; until then the hub stores and seals no secret"
		s.Log.Error(o.SecretProblem)
	}
}

// vault is the hub's store of secrets, with what a pass needs of it.
type vault struct {
	// Vault is nil where no secret can be stored.
	*secrets.Vault
	// settable are the names of the secrets that have a value. The map is never changed.
	settable map[string]bool
}

// errNoVault is the answer of a hub that can store no secret.
var errNoVault = errors.New("the hub can store no secrets: see dominionctl status")

// secret carries out the verb secret. Neither answer, log nor event has a value.
func (h *Hub) secret(ask topics.HubRequest, now time.Time) (any, error) {
	if h.vault.Vault == nil {
		return nil, errNoVault
	}
	if ask.Action == "set" || ask.Action == "remove" {
		if ask.Secret == "" {
			return nil, errors.New(`the request needs "secret": its name`)
		}
	}
	switch ask.Action {
	case "", "list":
	case "set":
		changed, err := h.vault.Set(ask.Secret, []byte(ask.Value), now)
		if changed {
			h.secretChanged("set", ask.Secret)
		}
		if err != nil {
			return nil, err
		}
	case "remove":
		if err := h.vault.Remove(ask.Secret); err != nil {
			return nil, err
		}
		h.secretChanged("removed", ask.Secret)
	default:
		return nil, fmt.Errorf(`"action" is list, set or remove, not %.40q`, ask.Action)
	}
	return h.secretViews(), nil
}

// secretChanged has everything that depends on secrets planned and ordered again.
func (h *Hub) secretChanged(how, name string) {
	h.log.Info("a secret was "+how, "secret", name)
	h.takeSecrets()
	h.changed.TouchAll()
}

// takeSecrets takes which secrets have a value.
func (h *Hub) takeSecrets() {
	if h.vault.Vault != nil {
		h.vault.settable = h.vault.Names()
	}
}

// secretViews returns the secrets that there are, and those that services need.
func (h *Hub) secretViews() []topics.SecretView {
	users := make(map[string][]string)
	for _, service := range slices.Sorted(maps.Keys(h.defs.Configured())) {
		for _, name := range topics.SecretNames(h.defs.Configured()[service].Environment) {
			users[name] = append(users[name], service)
		}
	}
	all := []topics.SecretView{}
	for _, one := range h.vault.List() {
		all = append(all, topics.SecretView{Name: one.Name, Missing: !h.vault.settable[one.Name], Changed: topics.At(one.Changed), Services: orNone(users[one.Name]), Domains: h.haveHad(one.Name)})
		delete(users, one.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(users)) {
		all = append(all, topics.SecretView{Name: name, Missing: true, Services: users[name], Domains: h.haveHad(name)})
	}
	return all
}

// haveHad returns the domains that have or have had a secret, by name where it is known.
func (h *Hub) haveHad(secret string) []string {
	all := []string{}
	for _, id := range h.vault.HaveHad(secret) {
		name := id
		for d := range h.fleet.All() {
			if d.ID == id {
				name = d.Name
			}
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// orNone returns a list that is written as [] where it is empty.
func orNone(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}

// secretRevisions returns what stands for the values of a service's secrets in its
// revision, by name; nil: it has none.
func (h *Hub) secretRevisions(service string) map[string]string {
	names := topics.SecretNames(h.defs.Get(service).Environment)
	if len(names) == 0 || h.vault.Vault == nil {
		return nil
	}
	revisions := make(map[string]string, len(names))
	for _, name := range names {
		revisions[name] = h.vault.Revision(name)
	}
	return revisions
}

// secretsFor returns which secrets a domain can be given, or why it can be given none.
func (h *Hub) secretsFor(d *domain) (settable map[string]bool, none string) {
	if h.vault.Vault == nil {
		return nil, "the hub cannot read its secrets: see dominionctl status"
	}
	if s := d.Status; s != nil && (s.Accept == config.AcceptLocal || s.Accept == config.AcceptEnvironment) {
		return nil, fmt.Sprintf("%s accepts no secrets (accept = %q in its domain.toml; %q lets it)", d.Name, s.Accept, config.AcceptDeploy)
	}
	if h.recipient(d) == "" {
		if key := h.adoption.RevokedKey(d.ID); key != "" {
			return nil, fmt.Sprintf("the key %s of %s was revoked, so no secret can be sealed to it", key, d.Name)
		}
		return nil, fmt.Sprintf("%s has no key, so no secret can be sealed to it: adopt it (`dominionctl adopt %s`)", d.Name, d.Name)
	}
	return h.vault.settable, ""
}

// seal returns the secrets of a service sealed to a domain, by name. One that is missing is
// left out: the domain starts nothing that needs it.
func (h *Hub) seal(d *domain, service string, names []string) map[string]string {
	recipient := h.recipient(d)
	if len(names) == 0 || h.vault.Vault == nil || recipient == "" {
		return nil
	}
	sealed := make(map[string]string, len(names))
	for _, name := range names {
		text, err := h.vault.Seal(secrets.Context{Dominion: h.ID(), Domain: d.ID, Service: service, Name: name}, recipient)
		if err == nil {
			sealed[name] = text
		} else if !errors.Is(err, secrets.ErrUnknown) && h.events.MayReport("secrets", events.MaxRefusals, time.Now()) {
			h.log.Error("a service gets no secret", "service", service, "domain", d.Name, "error", err)
		}
	}
	return sealed
}

// saveSecrets writes what was sealed, so that it is the same after a restart of the hub.
func (h *Hub) saveSecrets() {
	if h.vault.Vault == nil {
		return
	}
	if err := h.vault.Save(); err != nil && h.events.MayReport("secrets", events.MaxRefusals, time.Now()) {
		h.log.Error("what was sealed is sealed again after a restart of the hub", "error", err)
	}
}

// forgetSecrets forgets which secrets a domain has had, and returns them.
func (h *Hub) forgetSecrets(domainID string) []string {
	if h.vault.Vault == nil {
		return nil
	}
	had := h.vault.HadBy(domainID)
	if err := h.vault.Forget(domainID); err != nil {
		h.log.Error("a forgotten domain is named beside its secrets again after a restart of the hub", "error", err)
	}
	return had
}

// recipient returns what secrets are sealed to for a domain; "": it has no key.
func (h *Hub) recipient(d *domain) string { return h.adoption.Members()[d.ID].Recipient }
