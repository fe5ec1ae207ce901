package ctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/locate"
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

// find returns the one hub of this network, or the error that there is none, or
// more than one.
func (a *app) find(ctx context.Context, t target, window time.Duration) (foundHub, error) {
	found, err := a.env.browse(ctx, window)
	if err != nil {
		return foundHub{}, fail(ExitNoAnswer, hintNobody, "nobody answers at %s, and zeroconf failed: %v", t.url, err)
	}
	hubs := groupByHub(found)
	switch len(hubs) {
	case 0:
		return foundHub{}, fail(ExitNoAnswer, hintNobody, "nobody answers at %s, and zeroconf found no hub within %v", t.url, window)
	case 1:
		return a.onlyTrusted(hubs[0], t)
	}
	var which []string
	for _, h := range hubs {
		which = append(which, fmt.Sprintf("%s (--hub %s)", orDash(h.name), h.urls[0]))
	}
	return foundHub{}, fail(ExitNoAnswer, "choose one with --hub", "zeroconf found several hubs: %s", strings.Join(which, ", "))
}

const hintNobody = "is dominion running? name its broker with --hub host:port, or in DOMINION_URL"

// onlyTrusted removes the addresses that may not be connected to with the user's
// credentials: anybody on the network can announce a hub.
func (a *app) onlyTrusted(h foundHub, t target) (foundHub, error) {
	allowed, err := a.credentials(t).Allow(h.urls)
	if err == nil {
		h.urls = allowed
		return h, nil
	}
	if t.password != "" && !slices.ContainsFunc(h.urls, locate.Encrypted) {
		return foundHub{}, fail(ExitNoAnswer, "if you trust this network, name the hub yourself: --hub "+strings.TrimPrefix(h.urls[0], "mqtt://"),
			"the hub %s at %s is not encrypted and only zeroconf named it: the password was not sent", orDash(h.name), h.urls[0])
	}
	return foundHub{}, fail(ExitNoAnswer, "name the hub yourself, --hub "+strings.TrimPrefix(h.urls[0], "mqtt://")+", or the authority of its certificate, --cafile FILE",
		"the hub %s at %s: %v", orDash(h.name), h.urls[0], err)
}

// credentials returns what would be sent to a hub that zeroconf found.
func (a *app) credentials(t target) locate.Credentials {
	return locate.Credentials{Password: t.password != "", Pinned: a.caFile != ""}
}

// groupByHub makes hubs of announcements: one hub is announced by each of its
// listeners, on each of its interfaces.
func groupByHub(found []zeroconf.Found) []foundHub {
	var hubs []foundHub
	for _, f := range found {
		key := cmp.Or(f.Text["id"], f.Instance)
		i := slices.IndexFunc(hubs, func(h foundHub) bool { return h.id == key })
		if i < 0 {
			i = len(hubs)
			hubs = append(hubs, foundHub{id: key, name: cleanWords(cmp.Or(f.Text["name"], f.Instance)), prefix: f.Text["prefix"]})
		}
		for _, u := range locate.URLs(f) {
			if !slices.Contains(hubs[i].urls, u) {
				hubs[i].urls = append(hubs[i].urls, u)
			}
		}
	}
	hubs = slices.DeleteFunc(hubs, func(h foundHub) bool { return len(h.urls) == 0 })
	slices.SortFunc(hubs, func(x, y foundHub) int { return cmp.Or(cmp.Compare(x.name, y.name), cmp.Compare(x.id, y.id)) })
	return hubs
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
