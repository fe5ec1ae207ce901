package simulation

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/topics"
)

// healthy reports whether the home runs as its configuration and its users want, on
// machines that are all up: every service that can run, as often as it should,
// where it may, and nothing else.
func (h *home) healthy() bool { return h.defects() == "" }

// defects lists what is not as it should be, "" when all is.
func (h *home) defects() string {
	var all []string
	note := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	status, err := topics.Decode[topics.Hub]("", []byte(h.last(h.tree.Hub(topics.HubStatus))))
	if err != nil || !status.Ready || status.Domains.Online != h.online() {
		note("the hub says ready %v, %d domains online", status.Ready, status.Domains.Online)
	}
	if word := h.last(h.tree.Hub(topics.HubAvailability)); word != topics.Online {
		note("the hub is %q", word)
	}
	wants := h.wants()
	defs := definitions(h.cfg)
	wanted, total := 0, 0
	for name, d := range defs {
		var fit, run []string
		for _, m := range h.all() {
			if fits(d, m.status()) {
				fit = append(fit, m.name)
			}
			for range m.running(name) {
				run = append(run, m.name)
			}
		}
		n, every := number(d, wants[name].Replicas)
		if every || n > len(fit) {
			n = len(fit)
		}
		if !h.wanted(name, defs, wants) {
			n = 0
		}
		wanted += n
		if builtIn(name) { // it runs whatever anybody wants
			if wanted -= n; h.wanted(name, defs, wants) {
				wanted++
			}
			fit = h.lit(name)
			run, n = slices.Clone(fit), len(fit)
		}
		total += n
		if len(run) != n || len(slices.Compact(slices.Clone(run))) != n {
			note("%s runs on %v, it should %d times on %v", name, run, n, fit)
		}
		for _, m := range run {
			if !slices.Contains(fit, m) {
				note("%s runs on %s, where it may not", name, m)
			}
		}
		if s, err := topics.Decode[topics.Service]("", []byte(h.last(h.tree.Service(topics.ServiceStatus, name)))); err == nil {
			var listed []string
			for _, i := range s.Instances {
				listed = append(listed, i.Domain)
			}
			slices.Sort(listed)
			if !slices.Equal(listed, run) || s.Healthy != len(run) {
				note("the hub says that %s is on %v, %d healthy; it is on %v", name, listed, s.Healthy, run)
			}
		} else {
			note("nothing is said of %s: %v", name, err)
		}
		h.offers(name, run, note)
		h.upToDate(name, d, note)
	}
	for _, m := range h.all() {
		for service := range m.all() {
			if _, defined := defs[service]; !defined {
				note("%s runs on %s, and is gone from the configuration", service, m.name)
			}
		}
	}
	if status.Services.Running != total || status.Services.Wanted != wanted {
		note("the hub counts %d wanted and %d running, there are %d and %d", status.Services.Wanted, status.Services.Running, wanted, total)
	}
	return strings.Join(all, "\n")
}

// upToDate: a changed definition and a new version have reached every instance.
func (h *home) upToDate(name string, d services.Definition, note func(string, ...any)) {
	want := d.Spec(nil).Revision
	for _, m := range h.all() {
		m.mu.Lock()
		for _, p := range m.procs {
			_, revision, _ := strings.Cut(p.token, ".")
			switch {
			case p.service != name:
			case rollout.Base(revision) != want:
				note("%s on %s is of revision %s, it should be of %s", name, m.name, revision, want)
			case p.version != m.catalog[name]:
				note("%s on %s is version %s, there is %s", name, m.name, p.version, m.catalog[name])
			}
		}
		m.mu.Unlock()
	}
}

// all are the processes of a machine, by service.
func (m *machine) all() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string]int)
	for _, p := range m.procs {
		all[p.service]++
	}
	return all
}

// wanted reports whether a service should run, where its dependencies can.
func (h *home) wanted(name string, defs map[string]services.Definition, wants map[string]planner.Override) bool {
	d := defs[name]
	switch {
	case wants[name].Switch == topics.Off:
		return false
	case d.Priority == services.Required || wants[name].Switch == topics.On:
		return true
	}
	for other, o := range defs {
		if o.DependsOn(name) && h.wanted(other, defs, wants) && slices.ContainsFunc(h.all(), func(m *machine) bool { return fits(o, m.status()) }) {
			return true
		}
	}
	return false
}

// wants are what users have set for services, as the hub stores it.
func (h *home) wants() map[string]planner.Override {
	var s struct{ Wants map[string]planner.Override }
	b, err := os.ReadFile(filepath.Join(h.cfg.DataDir, "hub.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		h.Error(err)
	}
	return s.Wants
}

// processes are all that run, to tell later whether they still do. Exclusive
// ones end with their agent and with a hub that is away.
func (h *home) processes() string {
	var all []string
	for _, m := range h.all() {
		m.mu.Lock()
		for pid, p := range m.procs {
			if p.service == "safe" {
				continue
			}
			all = append(all, fmt.Sprintf("%s@%s.%d", p.service, m.name, pid))
		}
		m.mu.Unlock()
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
