package config

import (
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// Identity is [identity] of a dominion.toml.
type Identity struct {
	// Lifetime is that of the certificates of hub, domains and services.
	Lifetime topics.Seconds
	// AuthorityCert and AuthorityKey are files of an authority, or of an intermediate, in
	// the place of the dominion's own; "": its own.
	AuthorityCert, AuthorityKey string
	// Adoption is AdoptionAsk, or AdoptionOpen where domains that want it are adopted
	// without code and token.
	Adoption string
}

// Whether an adoption needs a code or token.
const (
	AdoptionAsk  = "ask"
	AdoptionOpen = "open"
)

// adoption checks how a domain or dominion adopts.
func adoption(s string) problem {
	if s == AdoptionAsk || s == AdoptionOpen {
		return problem{}
	}
	return problem{quote(s) + " does not say how to adopt", `use "ask", or "open"`}
}

func identitySection() section[*Dominion] {
	return section[*Dominion]{
		path: "identity", asWhole: true, doc: "[keys and certificates](../security.md#keys-and-certificates)",
		settings: []setting[*Dominion]{
			{
				key: "adoption", of: func(d *Dominion) any { return &d.Identity.Adoption }, def: AdoptionAsk,
				check: textCheck(adoption),
				doc:   "how domains are adopted: by their code, a token or `dominionctl permit-join`. `\"open\"`: also without, those that want it; for closed networks and tests",
			},
			{
				key: "lifetime", of: func(d *Dominion) any { return &d.Identity.Lifetime }, def: identity.DefaultLifetime,
				check: func(t *table, key string, v any) {
					if least := identity.MinLifetime; v.(*topics.Seconds).Duration() < least {
						t.fault(key, "write "+quote(least.String())+" or more; the default is "+quote("8760h"), "is shorter than %v", least)
					}
				},
				doc: "of the certificates of hub, domains and services; they are renewed after two thirds of it",
			},
			{
				key: "authority_cert", of: func(d *Dominion) any { return &d.Identity.AuthorityCert }, isPath: true,
				usual: "the dominion's own",
				doc:   "certificate of the authority, or of an intermediate with its issuers up to the root, PEM. Domains pin the root",
			},
			{
				key: "authority_key", of: func(d *Dominion) any { return &d.Identity.AuthorityKey }, isPath: true,
				usual: "the dominion's own",
				doc:   "its key, PEM",
			},
		},
		judge: func(in tables, d *Dominion) {
			t := in["identity"]
			switch {
			case d.Identity.AuthorityCert != "" && d.Identity.AuthorityKey == "":
				t.fault("authority_cert", "write authority_key too", "needs authority_key")
			case d.Identity.AuthorityKey != "" && d.Identity.AuthorityCert == "":
				t.fault("authority_key", "write authority_cert too", "needs authority_cert")
			}
		},
	}
}
