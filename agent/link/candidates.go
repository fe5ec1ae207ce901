package link

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// candidate is a broker where a hub may be.
type candidate struct {
	url string
	// dominion must be found there; zero: any that the policy allows.
	dominion Dominion
}

// LoopbackURL is where the hub of this machine listens by default.
const LoopbackURL = "mqtt://127.0.0.1:1883"

// joinPolicy is which dominion an agent may join, and how.
type joinPolicy struct {
	// name is the dominion of the configuration, a name or an id; "": any.
	name string
	// previous is the dominion joined before; zero: none.
	previous Dominion
	// prefix is topic_prefix.
	prefix      string
	credentials locate.Credentials
	// pinned is the id of the dominion that adopted the domain; "": none. No other is
	// joined, whatever the configuration says.
	pinned string
	// encrypted is set if the domain was adopted by TLS: nothing that others announce
	// makes it join without.
	encrypted bool
}

// brokers returns those of the addresses, named by an announcement or by an earlier
// join, to which the agent may connect, best first, or else the reason.
func (p joinPolicy) brokers(urls []string) ([]string, error) {
	if !p.encrypted {
		return p.credentials.Allow(urls)
	}
	allowed := slices.DeleteFunc(slices.Clone(urls), func(u string) bool { return !locate.Encrypted(u) })
	if len(allowed) == 0 {
		return nil, errors.New("it is announced without TLS, and this domain was adopted with TLS: it is not joined")
	}
	return allowed, nil
}

// allows reports whether a dominion may be joined. One that was joined before is
// recognised by its id alone, as any hub can have its name. Another one may be
// joined if the configuration names it, by its id or by another name than that of
// the one before.
func (p joinPolicy) allows(d Dominion) bool {
	switch {
	case p.pinned != "" && p.pinned != d.ID:
		return false
	case p.name != "" && p.name == d.ID:
		return true
	case isID(p.name):
		return false // a hub may have been given an id as its name
	case p.name != "" && p.name != d.Name:
		return false
	case p.previous.ID != "" && (p.name == "" || p.name == p.previous.Name):
		return d.ID == p.previous.ID
	}
	return true
}

// candidates returns the brokers to try, best first: those that the configuration
// names, or else the last one, and while the link searches those that zeroconf
// found, and this machine.
func (l *Link) candidates(found []zeroconf.Found) []candidate {
	var all []candidate
	if !l.mayJoin() {
		return nil
	}
	if hubs := config.HubURLs(l.o.Config.Hub); len(hubs) > 0 {
		if at := slices.Index(hubs, l.lastURL); at > 0 { // where it was last, and then on from there
			hubs = slices.Concat(hubs[at:], hubs[:at])
		}
		for _, url := range hubs {
			all = append(all, candidate{url: url})
		}
		return all
	}
	policy := l.joinPolicy()
	if c := (candidate{l.lastURL, l.previous}); c.url != "" && policy.allows(c.dominion) {
		// No configuration names that address any more, if one ever did.
		if allowed, _ := policy.brokers([]string{c.url}); len(allowed) > 0 {
			all = append(all, c)
		}
	}
	if !l.searching {
		return all
	}
	chosen, problem, impostors := choose(found, policy)
	for _, s := range impostors {
		l.report(s)
	}
	if problem != "" {
		l.logOnce("found", slog.LevelWarn, problem)
	}
	for _, c := range chosen {
		if !slices.ContainsFunc(all, func(other candidate) bool { return other.url == c.url }) {
			all = append(all, c)
		}
	}
	// Any program of this machine may listen there: it gets no password.
	if !policy.encrypted && policy.credentials == (locate.Credentials{}) && !slices.ContainsFunc(all, func(c candidate) bool { return c.url == LoopbackURL }) {
		all = append(all, candidate{url: LoopbackURL})
	}
	return all
}

// joinPolicy returns what this agent may join.
func (l *Link) joinPolicy() joinPolicy {
	home, _ := l.home()
	return joinPolicy{
		pinned: home.ID, encrypted: home.Encrypted,
		name: l.o.Config.Dominion, previous: l.previous, prefix: l.o.Tree.Prefix(),
		credentials: locate.Credentials{Password: l.o.Config.PasswordFile != "", Pinned: l.o.Config.CAFile != ""},
	}
}

// isID reports whether a text has the form of topics.NewID.
func isID(s string) bool {
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
}

// impostor describes a dominion that has the name of the one joined before but
// another id; "" for any other.
func (p joinPolicy) impostor(d Dominion) string {
	if p.previous.ID == "" || d.ID == p.previous.ID || d.Name != p.previous.Name || p.allows(d) {
		return ""
	}
	return fmt.Sprintf("another dominion has the name %q, id %.40q: it is not joined, this domain belongs to the one with id %q (if the hub was set up anew, set dominion = %q in domain.toml)",
		d.Name, d.ID, p.previous.ID, fmt.Sprintf("%.40s", d.ID))
}

// choose picks the brokers of one dominion from what zeroconf found, best
// first. problem is why there is none although something was found; impostors
// describe dominions that use the name of the one joined before.
func choose(found []zeroconf.Found, p joinPolicy) (candidates []candidate, problem string, impostors []string) {
	names := make(map[string]string) // of dominions, by id
	var usable []zeroconf.Found
	for _, f := range found {
		id, name := f.Text["id"], f.Text["name"]
		if id == "" || !topics.ValidName(name) {
			continue
		}
		switch {
		case !topics.SameMajor(f.Text["protocol"]):
			problem = fmt.Sprintf("dominion %q speaks protocol %.20q, this agent %s: bring both to the same version", name, f.Text["protocol"], topics.Protocol)
		case f.Text["prefix"] != "" && f.Text["prefix"] != p.prefix:
			problem = fmt.Sprintf("dominion %q has the topic_prefix %.60q, this domain %q: make them the same", name, f.Text["prefix"], p.prefix)
		default:
			names[id] = name
			usable = append(usable, f)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(names)) {
		if s := p.impostor(Dominion{id, names[id]}); s != "" {
			impostors = append(impostors, s)
		}
	}
	id, why := selectDominion(names, p)
	if id == "" {
		if why == "" {
			why = problem
		}
		return nil, why, impostors
	}
	var urls []string
	for _, f := range usable {
		if f.Text["id"] == id {
			urls = append(urls, locate.URLs(f)...)
		}
	}
	allowed, reason := p.brokers(urls)
	if reason != nil {
		return nil, fmt.Sprintf("dominion %q: %v (set hub = %q in domain.toml, or cafile to the authority of its certificate and listen_tls at the hub)",
			names[id], reason, strings.TrimPrefix(urls[0], "mqtt://")), impostors
	}
	for _, u := range allowed {
		candidates = append(candidates, candidate{u, Dominion{id, names[id]}})
	}
	return candidates, "", impostors
}

// selectDominion selects one of the dominions found: the one joined before, the one
// that the configuration names, else the only one. Without being named in the
// configuration no other than the one joined before is joined, even while that is
// not reachable: it would stop every service here.
func selectDominion(names map[string]string, p joinPolicy) (id, problem string) {
	var fits []string
	for i, name := range names {
		if p.allows(Dominion{i, name}) {
			fits = append(fits, i)
		}
	}
	switch {
	case len(names) == 0:
		return "", ""
	case slices.Contains(fits, p.previous.ID):
		return p.previous.ID, ""
	case slices.Contains(fits, p.name):
		return p.name, ""
	case len(fits) == 1:
		return fits[0], ""
	case len(fits) > 1 && p.name == "":
		return "", fmt.Sprintf("several dominions are here, %s: set dominion = \"…\" in domain.toml", quotedNames(names))
	case len(fits) > 1:
		slices.Sort(fits)
		return "", fmt.Sprintf("several dominions here have the name %q: give them different names, or set dominion to the id of one, %s", names[fits[0]], strings.Join(fits, " or "))
	case p.previous.ID == "" || p.name != "" && p.name != p.previous.Name:
		return "", fmt.Sprintf("dominion %q is not here, only %s", p.name, quotedNames(names))
	}
	return "", fmt.Sprintf("dominion %q, which this domain belongs to, is not here, only %s (to move there, set dominion in domain.toml)", p.previous.Name, quotedNames(names))
}

func quotedNames(names map[string]string) string {
	var all []string
	for _, name := range names {
		all = append(all, strconv.Quote(name))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
