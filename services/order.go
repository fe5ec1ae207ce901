package services

import (
	"maps"
	"slices"
)

// StartOrder returns the names of the definitions such that each comes after
// what it depends on, alphabetically where that leaves a choice. The
// definitions must have no circle (Validate).
func StartOrder(defs []Definition) []string {
	byName := make(map[string]Definition, len(defs))
	for _, d := range defs {
		byName[d.Name] = d
	}
	order := make([]string, 0, len(defs))
	placed := make(map[string]bool, len(defs))
	var place func(name string)
	place = func(name string) {
		d, known := byName[name]
		if !known || placed[name] {
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

// findCycle returns the names along a circle of dependencies of two or more
// services, or nil. A service that depends on itself is a fault of its own.
func findCycle(all map[string]Definition) []string {
	const (
		open = iota + 1
		done
	)
	state := make(map[string]int, len(all))
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		switch state[name] {
		case open:
			return slices.Clone(path[slices.Index(path, name):])
		case done:
			return nil
		}
		state[name] = open
		path = append(path, name)
		for _, dep := range all[name].Dependencies {
			if _, known := all[dep.Service]; !known || dep.Service == name {
				continue
			}
			if cycle := visit(dep.Service); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if cycle := visit(name); cycle != nil {
			return cycle
		}
	}
	return nil
}
