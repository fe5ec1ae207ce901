package agent

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/topics"
)

// candidate is a broker where a hub may be.
type candidate struct {
	url      string
	dominion identity // that must be found there; zero: any
}

// wish is which dominion an agent may join, and how.
type wish struct {
	name      string   // from the configuration; "": any
	known     identity // joined before; zero: none
	prefix    string   // topic_prefix
	password  bool     // we have one, which must not be sent in the clear
	preferTLS bool
}

// wants tells whether a dominion may be joined.
func (w wish) wants(d identity) bool {
	switch {
	case w.name != "":
		return d.Name == w.name
	case w.known.ID != "":
		// A hub that was installed anew has another id and the name it had.
		return d.ID == w.known.ID || d.Name == w.known.Name
	}
	return true
}

// choose picks the brokers of one dominion from what zeroconf found, best
// first. problem says why there is none although something was found.
func choose(found []zeroconf.Found, w wish) (candidates []candidate, problem string) {
	names := make(map[string]string) // of dominions, by id
	var usable []zeroconf.Found
	for _, f := range found {
		id, name := f.Text["id"], f.Text["name"]
		switch {
		case id == "" || !topics.ValidName(name):
		case !topics.SameMajor(f.Text["protocol"]):
			problem = fmt.Sprintf("dominion %q speaks protocol %.20q, this agent %s: bring both to the same version", name, f.Text["protocol"], topics.Protocol)
		case f.Text["prefix"] != "" && f.Text["prefix"] != w.prefix:
			problem = fmt.Sprintf("dominion %q has the topic_prefix %.60q, this domain %q: make them the same", name, f.Text["prefix"], w.prefix)
		default:
			names[id] = name
			usable = append(usable, f)
		}
	}
	id, why := pick(names, w)
	if id == "" {
		if why == "" {
			why = problem
		}
		return nil, why
	}
	var plain, encrypted []candidate
	for _, f := range usable {
		if f.Text["id"] != id {
			continue
		}
		for _, u := range urls(f) {
			c := candidate{u, identity{id, names[id]}}
			if c.encrypted() {
				encrypted = append(encrypted, c)
			} else {
				plain = append(plain, c)
			}
		}
	}
	switch {
	case w.password && len(encrypted) == 0 && len(plain) > 0:
		return nil, fmt.Sprintf("dominion %q was found by zeroconf alone and without TLS: a password is not sent there (set listen_tls at the hub, or hub = %q in domain.toml)", names[id], strings.TrimPrefix(plain[0].url, "mqtt://"))
	case w.password:
		return encrypted, ""
	case w.preferTLS:
		return append(encrypted, plain...), ""
	}
	return append(plain, encrypted...), ""
}

// pick chooses one of the dominions found: the one the configuration names,
// else the one known, else the only one. Another one than the known is never
// joined, even while that is away: it would stop every service here.
func pick(names map[string]string, w wish) (id, problem string) {
	var fits []string
	for i, name := range names {
		if w.wants(identity{i, name}) {
			fits = append(fits, i)
		}
	}
	switch {
	case len(names) == 0:
		return "", ""
	case slices.Contains(fits, w.known.ID):
		return w.known.ID, ""
	case len(fits) == 1:
		return fits[0], ""
	case len(fits) > 1 && w.name == "" && w.known.ID == "":
		return "", fmt.Sprintf("several dominions are here, %s: set dominion = \"…\" in domain.toml", quoted(names))
	case len(fits) > 1:
		return "", fmt.Sprintf("several dominions here have the name %q: give them different names", names[fits[0]])
	case w.name != "":
		return "", fmt.Sprintf("dominion %q is not here, only %s", w.name, quoted(names))
	}
	return "", fmt.Sprintf("dominion %q, which this domain belongs to, is not here, only %s (to move there, set dominion in domain.toml)", w.known.Name, quoted(names))
}

func quoted(names map[string]string) string {
	var all []string
	for _, name := range names {
		all = append(all, strconv.Quote(name))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// maxAddresses bounds how long a hub that announces nonsense keeps us busy.
const maxAddresses = 6

// urls returns the brokers that an announcement means: the external one that
// it names, else its own addresses, IPv4 first.
func urls(f zeroconf.Found) []string {
	if b := f.Text["broker"]; b != "" {
		u, err := url.Parse(b)
		if err != nil || u.Host == "" || u.Scheme != "mqtt" && u.Scheme != "mqtts" {
			return nil
		}
		u.User = nil // the hub's own
		return []string{u.String()}
	}
	scheme := "mqtt"
	if f.Text["tls"] == "1" {
		scheme = "mqtts"
	}
	addresses := slices.Clone(f.Addresses)
	slices.SortStableFunc(addresses, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	var all []string
	for _, a := range addresses {
		if a.IsLinkLocalUnicast() && a.Is6() && a.Zone() == "" {
			continue // of which link?
		}
		u := url.URL{Scheme: scheme, Host: net.JoinHostPort(a.String(), strconv.Itoa(f.Port))}
		if all = append(all, u.String()); len(all) == maxAddresses {
			break
		}
	}
	return all
}

func (c candidate) encrypted() bool { return strings.HasPrefix(c.url, "mqtts:") }

// staticURL returns the URL of the hub that the configuration names.
func staticURL(hub string) string {
	if hub == "" || strings.Contains(hub, "://") {
		return hub
	}
	return "mqtt://" + hub
}
