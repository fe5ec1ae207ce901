package ctl

import (
	"cmp"
	"context"
	"slices"

	"github.com/jmbarzee/dominion/topics"
)

// unknownNameHint returns the hint for a name that is neither a service nor a domain of o:
// what else has that name, else the name that is nearest to it.
func (a *app) unknownNameHint(ctx context.Context, s *session, o topics.Overview, name string) string {
	all := namesOf(o.Services, func(v topics.Service) string { return v.Service })
	all = append(all, namesOf(o.Domains, func(d topics.DomainView) string { return d.Name })...)
	if near := nearestName(name, all); near != "" {
		return "did you mean: " + a.instead(name, near)
	}
	users, _ := lookups["USER"](ctx, s)
	clients, _ := lookups["CLIENT"](ctx, s)
	kinds := []struct {
		what, command string
		names         []string
	}{
		{"a device on the broker", "dominionctl devices " + commandWord(name), s.deviceNames(ctx)},
		{"a user of the broker", "dominionctl user list", users},
		{"a client of the broker", "dominionctl clients", clients},
	}
	for _, k := range kinds {
		if slices.Contains(k.names, name) {
			return "it is " + k.what + ": " + k.command
		}
	}
	for _, k := range kinds {
		if near := nearestName(name, k.names); near != "" {
			return cleanWords(near) + " is " + k.what + "; dominionctl services and dominionctl domains list what can be described"
		}
	}
	return "dominionctl services and dominionctl domains list them"
}

// deviceNames returns the ids and names of the devices on the broker, of the first
// part of the answer.
func (s *session) deviceNames(ctx context.Context) (all []string) {
	devices, _ := askFor[topics.Devices](ctx, s, topics.VerbDevices, topics.HubRequest{}, completeTimeout)
	for _, d := range devices.Devices {
		all = append(all, d.ID, cmp.Or(d.Name, d.ID))
	}
	return all
}
