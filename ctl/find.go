package ctl

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/topics"
)

// browseWindow is how long answers of zeroconf are waited for.
const browseWindow = 2 * time.Second

// foundHub is a hub that zeroconf knows of, with the addresses it may have:
// an announcement is only a hint, it may outlive its hub for an hour.
type foundHub struct {
	id, name, prefix string
	urls             []string
}

// find returns the one hub of this network, or says why there is none to
// choose.
func (a *app) find(ctx context.Context, t target, window time.Duration) (foundHub, error) {
	found, err := a.env.browse(ctx, window)
	if err != nil {
		return foundHub{}, fail(ExitNoAnswer, hintNobody, "nobody answers at %s, and zeroconf failed: %v", t.url, err)
	}
	hubs := gather(found, t.password != "" || a.caFile != "")
	switch len(hubs) {
	case 0:
		return foundHub{}, fail(ExitNoAnswer, hintNobody, "nobody answers at %s, and zeroconf found no hub within %v", t.url, window)
	case 1:
		return a.trusted(hubs[0], t)
	}
	var which []string
	for _, h := range hubs {
		which = append(which, fmt.Sprintf("%s (--hub %s)", orDash(h.name), h.urls[0]))
	}
	return foundHub{}, fail(ExitNoAnswer, "choose one with --hub", "zeroconf found several hubs: %s", strings.Join(which, ", "))
}

const hintNobody = "is dominion running? name its broker with --hub host:port, or in DOMINION_URL"

// trusted keeps the addresses that may be told the password: anybody on the
// network can announce a hub, so an unencrypted one may not.
func (a *app) trusted(h foundHub, t target) (foundHub, error) {
	if t.password == "" {
		return h, nil
	}
	open := h.urls[0]
	if h.urls = slices.DeleteFunc(h.urls, func(u string) bool { return !secure(u) }); len(h.urls) == 0 {
		return foundHub{}, fail(ExitNoAnswer, "if you trust this network, name the hub yourself: --hub "+strings.TrimPrefix(open, "mqtt://"),
			"the hub %s at %s is not encrypted and only zeroconf named it: the password was not sent", orDash(h.name), open)
	}
	return h, nil
}

// gather makes hubs of announcements: one hub is announced by each of its
// listeners, on each of its interfaces. Encrypted addresses come first if
// they are preferred, else last.
func gather(found []zeroconf.Found, preferTLS bool) []foundHub {
	var hubs []foundHub
	for _, f := range found {
		key := cmp.Or(f.Text["id"], f.Instance)
		i := slices.IndexFunc(hubs, func(h foundHub) bool { return h.id == key })
		if i < 0 {
			i = len(hubs)
			hubs = append(hubs, foundHub{id: key, name: cleanWords(cmp.Or(f.Text["name"], f.Instance)), prefix: f.Text["prefix"]})
		}
		for _, u := range announced(f) {
			if !slices.Contains(hubs[i].urls, u) {
				hubs[i].urls = append(hubs[i].urls, u)
			}
		}
	}
	for i := range hubs {
		slices.SortStableFunc(hubs[i].urls, func(x, y string) int {
			return cmp.Compare(b2i(secure(x) != preferTLS), b2i(secure(y) != preferTLS))
		})
	}
	hubs = slices.DeleteFunc(hubs, func(h foundHub) bool { return len(h.urls) == 0 })
	slices.SortFunc(hubs, func(x, y foundHub) int { return cmp.Or(cmp.Compare(x.name, y.name), cmp.Compare(x.id, y.id)) })
	return hubs
}

// announced returns the addresses of one announcement, IPv4 first.
func announced(f zeroconf.Found) []string {
	if broker := f.Text["broker"]; broker != "" { // the hub uses somebody else's
		address, _, err := parseAddress("zeroconf", broker, false)
		if err != nil {
			return nil
		}
		return []string{address}
	}
	scheme := "mqtt://"
	if f.Text["tls"] == "1" {
		scheme = "mqtts://"
	}
	addresses := slices.Clone(f.Addresses)
	slices.SortStableFunc(addresses, func(x, y netip.Addr) int { return cmp.Compare(b2i(!x.Is4()), b2i(!y.Is4())) })
	var urls []string
	for _, ip := range addresses {
		if ip.IsLinkLocalUnicast() && ip.Is6() && ip.Zone() == "" {
			continue // no way to tell over which interface
		}
		host := net.JoinHostPort(ip.String(), strconv.Itoa(f.Port))
		if u, err := url.Parse(scheme + strings.ReplaceAll(host, "%", "%25")); err == nil {
			urls = append(urls, u.String())
		}
	}
	return urls
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// prefixOf is the base of the topics of a hub that zeroconf found: --prefix
// beats the announcement, which may say anything.
func (h foundHub) prefixOf(t target) string {
	if t.prefix != "" {
		return t.prefix
	}
	if strings.ContainsAny(h.prefix, "+#") || len(h.prefix) > 200 || cleanWords(h.prefix) != h.prefix {
		return topics.DefaultPrefix
	}
	return h.prefix
}
