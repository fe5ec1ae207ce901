package agent

import (
	"time"

	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/foreign"
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
