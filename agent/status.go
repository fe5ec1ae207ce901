package agent

import (
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/agent/report"
	"github.com/jmbarzee/dominion/topics"
)

// minHeartbeat is the shortest heartbeat interval that a start command can set.
const minHeartbeat = 100 * time.Millisecond

// state returns what this domain reports now.
func (l *loop) state(now time.Time) report.State {
	instances := l.instances()
	catalog := withRunning(l.inventory.Catalog(), instances, l.programs.Deployed)
	return report.State{
		Domain: topics.Domain{
			Address: l.inventory.Address(), Addresses: l.inventory.Addresses(),
			Traits: l.currentTraits(), Draining: l.store.memory.Draining,
			Services: list(instances), Catalog: list(catalog), Problems: l.traits.Problems(now),
			Platform: l.platform, Accept: l.accept(),
		},
		Position:  l.position(),
		Heartbeat: max(minHeartbeat, l.timing.Heartbeat.Duration()),
	}
}

// withRunning returns the catalog together with services that run but cannot be
// read on disk at present: a service.toml is half written, a directory is being
// replaced, a mount is missing. That is no reason for the hub to stop them. It
// adds a message to these instances. Those that run from a bundle are no part of the catalog.
func withRunning(catalog []topics.CatalogRow, instances []topics.Instance, deployed func(service string) bool) []topics.CatalogRow {
	all := catalog
	for n := range instances {
		i := &instances[n]
		if i.State != topics.Running && i.State != topics.Starting || deployed(i.Service) || slices.ContainsFunc(catalog, func(r topics.CatalogRow) bool { return r.Service == i.Service }) {
			continue
		}
		all = append(slices.Clip(all), topics.CatalogRow{Service: i.Service, Version: i.Version})
		if i.Message == "" {
			i.Message = "it runs on, but could not be started again: its directory or its service.toml in services_dir cannot be read"
		}
	}
	if len(all) == len(catalog) {
		return all
	}
	slices.SortFunc(all, func(a, b topics.CatalogRow) int { return strings.Compare(a.Service, b.Service) })
	return all
}

// currentTraits returns the traits of the configuration and those of sources that
// are present now.
func (l *loop) currentTraits() []string {
	all := slices.Clone(list(l.config.Traits))
	for _, t := range l.traits.Present() {
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all
}

// list returns a list that is [] on the wire when it is empty, not null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
