package simulation

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// ownerConfig is the configuration of a home, and what its owner changed of it.
type ownerConfig struct {
	timing   string // of dominion.toml
	services map[string]*room
}

// room is one service of the configuration.
type room struct {
	lines    []string // as they always are
	paint    int      // in its environment: another one is another revision
	replicas int      // -1: the line is left out
	pins     []string
	gone     bool
}

func newOwnerConfig(timing string, lines map[string][]string) *ownerConfig {
	b := &ownerConfig{timing: timing, services: make(map[string]*room)}
	for name, l := range lines {
		b.services[name] = &room{lines: l, replicas: -1}
	}
	return b
}

// small is a house of few services, of which each test knows where they run.
var small = map[string][]string{
	"lamp":         {`priority = "required"`, `traits = ["lamp"]`, `dependencies = ["orchestrator"]`},
	"orchestrator": {`dependencies = ["web"]`},
	"web":          nil,
	"monitor":      {`priority = "required"`},
}

// large is a house for twenty domains: services of every kind of placement.
var large = map[string][]string{
	"lamp":         {`priority = "required"`, `traits = ["lamp"]`, `dependencies = ["orchestrator >=1.0"]`},
	"orchestrator": {`dependencies = ["web"]`, `version = ">=1.0 <2.0"`},
	"web":          nil,
	"monitor":      {`priority = "required"`},
	"store":        {`priority = "required"`, `replicas = 3`},
	"camera":       {`priority = "required"`, `traits = ["eye"]`, `replicas = 2`, `dependencies = ["store"]`},
	"clock":        {`priority = "required"`, `domains = ["room-1", "room-2", "room-3"]`, `replicas = 1`},
	"safe":         {`priority = "required"`, `replicas = 1`, `exclusive = true`, `stop_timeout = "5s"`},
	"bell":         nil,
	"chime":        {`priority = "required"`, `replicas = 2`, `dependencies = ["bell"]`},
	"extra":        {`priority = "required"`, `replicas = 1`, `dependencies = ["web"]`, `stop_timeout = "3s"`},
}

// twenty are the machines of a large house.
func twenty() []string {
	var names []string
	for i := range 6 {
		names = append(names, fmt.Sprintf("lamp-%d", i+1))
	}
	for i := range 4 {
		names = append(names, fmt.Sprintf("eye-%d", i+1))
	}
	for i := range 10 {
		names = append(names, fmt.Sprintf("room-%d", i+1))
	}
	return names
}

// traitsOf is what a machine offers, by its name.
func traitsOf(name string) []string {
	for _, t := range []string{"lamp", "eye"} {
		if strings.HasPrefix(name, t+"-") {
			return []string{t}
		}
	}
	return nil
}

// toml is the configuration as its owner wrote it.
func (b *ownerConfig) toml() string {
	var s strings.Builder
	s.WriteString(b.timing)
	for _, name := range slices.Sorted(maps.Keys(b.services)) {
		r := b.services[name]
		if r.gone {
			continue
		}
		fmt.Fprintf(&s, "\n[services.%s]\n", name)
		for _, l := range r.lines {
			if r.replicas >= 0 && strings.HasPrefix(l, "replicas") || r.pins != nil && strings.HasPrefix(l, "domains") {
				continue
			}
			s.WriteString(l + "\n")
		}
		if r.replicas >= 0 {
			fmt.Fprintf(&s, "replicas = %d\n", r.replicas)
		}
		if r.pins != nil {
			fmt.Fprintf(&s, "domains = [%q]\n", r.pins[0])
		}
		if r.paint > 0 {
			fmt.Fprintf(&s, "environment = { PAINT = \"%d\" }\n", r.paint)
		}
	}
	return s.String()
}

// load reads the configuration as the hub does.
func (b *ownerConfig) load(dir string) (config.Dominion, error) {
	file := filepath.Join(dir, "dominion.toml")
	if err := os.WriteFile(file, []byte(b.toml()), 0o600); err != nil {
		return config.Dominion{}, err
	}
	c, err := config.LoadDominion(file, nil)
	c.DataDir = filepath.Join(dir, "hub")
	return c, err
}

// restore takes back what would keep a service from running.
func (b *ownerConfig) restore() {
	for _, r := range b.services {
		r.pins, r.gone, r.replicas = nil, false, -1
	}
}

func definitions(c config.Dominion) map[string]services.Definition {
	all := make(map[string]services.Definition)
	for _, d := range c.Services {
		all[d.Name] = d
	}
	return all
}

// fits reports whether a machine may run a service, by what is known of it.
func fits(d services.Definition, on topics.Domain) bool {
	for _, t := range d.Traits {
		if !slices.Contains(on.Traits, t) {
			return false
		}
	}
	if len(d.Domains) > 0 && !slices.Contains(d.Domains, on.Name) {
		return false
	}
	for _, row := range on.Catalog {
		if row.Service == d.Name {
			return d.Version.Contains(row.Version)
		}
	}
	return false
}

// number is how many instances are wanted; all stands for one on every machine
// that fits.
func number(d services.Definition, scaled int) (n int, all bool) {
	switch {
	case scaled > 0:
		return scaled, false
	case d.Replicas > 0:
		return d.Replicas, false
	case d.Priority == services.Required:
		return 0, true
	}
	return 1, false
}
