package services

import (
	"maps"
	"slices"
)

// StartOrder returns the names of the definitions such that each comes after
// what it depends on; the same order for the same definitions, however they
// are sorted. The definitions must have no cycle (Validate).
func StartOrder(defs []Definition) []string {
	byName := make(map[string]Definition, len(defs))
	for _, d := range defs {
		byName[d.Name] = d
	}
	order := make([]string, 0, len(defs))
	placed := make(map[string]bool, len(defs))
	var place func(name string)
	place = func(name string) {
		d, defined := byName[name]
		if !defined || placed[name] {
			return
		}
		placed[name] = true
		deps := make([]string, 0, len(d.Dependencies))
		for _, dep := range d.Dependencies {
			deps = append(deps, dep.Service)
		}
		slices.Sort(deps)
		for _, dep := range deps {
			place(dep)
		}
		order = append(order, name)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		place(name)
	}
	return order
}

// findCycles returns the names along each cycle of dependencies of two or more
// services, most at most: there may be more cycles than services, each as long
// as all of them. A service that depends on itself is a fault of its own.
func findCycles(all map[string]Definition, most int) [][]string {
	const (
		open = iota + 1
		done
	)
	state := make(map[string]int, len(all))
	var path []string
	var cycles [][]string
	var visit func(name string)
	visit = func(name string) {
		switch state[name] {
		case open:
			if len(cycles) < most {
				cycles = append(cycles, slices.Clone(path[slices.Index(path, name):]))
			}
			return
		case done:
			return
		}
		state[name] = open
		path = append(path, name)
		for _, dep := range all[name].Dependencies {
			if _, defined := all[dep.Service]; defined && dep.Service != name {
				visit(dep.Service)
			}
		}
		path = path[:len(path)-1]
		state[name] = done
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		visit(name)
	}
	return cycles
}
