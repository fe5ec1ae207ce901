package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// machine is the real Facts.
type machine struct {
	catalog *facts.Catalog
	meter   *facts.Meter
}

func newMachine(c config.Domain, files *foreign.Files) machine {
	user, _ := supervisor.User(c.RunAs) // a fault of it ends Run
	load := func(serviceDir string) (facts.Manifest, error) {
		s, err := supervisor.ReadManifest(files, serviceDir, user)
		return facts.Manifest{Version: s.Version, ReleaseURL: s.ReleaseURL, Summary: s.Summary, Command: s.Command}, err
	}
	return machine{facts.NewCatalog(c.ServicesDir, files, load), facts.NewMeter(c.DataDir)}
}

func (m machine) Catalog() ([]topics.CatalogRow, []string) { return m.catalog.Scan() }
func (m machine) Addresses() (string, []string) {
	return facts.Addresses(zeroconf.Interfaces(nil))
}

func (m machine) Metrics(now time.Time, groups map[string]int) topics.Metrics {
	return m.meter.Measure(now, groups)
}

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
