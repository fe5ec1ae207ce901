package agent

import (
	"context"
	"fmt"

	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/broker/zeroconf"
)

// discardPort stands where an announcement needs a port: a lonely domain
// serves nothing (RFC 863).
const discardPort = 9

// announcement returns the function that announces a lonely domain by zeroconf
// until ctx ends, with the dominion that it is a member of; nil if zeroconf is off.
func (a *Agent) announcement(id string, member func() link.Dominion) func() func(ctx context.Context) error {
	c := a.o.Config
	if !c.Zeroconf.Enabled {
		return nil
	}
	return func() func(ctx context.Context) error {
		service := zeroconf.Service{
			Type: zeroconf.TypeDomain,
			// Two machines of one name are lonely together; an instance is one.
			Instance: fmt.Sprintf("%.54s-%.8s", c.Name, id),
			Port:     discardPort,
			Text:     map[string]string{"id": id, "name": c.Name, "version": a.o.Version},
		}
		if d := member(); d.ID != "" {
			service.Text["dominion"], service.Text["dominion_name"] = d.ID, d.Name
		}
		return func(ctx context.Context) error {
			return a.o.Announce(ctx, c.Zeroconf.Interfaces, a.o.Log, service)
		}
	}
}
