package hub

import (
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// builtIn returns the microdomains among the instances of a service. They run it even
// where it is not wanted.
func (h *Hub) builtIn(instances []topics.ServiceInstance) []string {
	var names []string
	for _, i := range instances {
		if d := h.fleet.Get(i.Domain); d != nil && d.Micro {
			names = append(names, i.Domain)
		}
	}
	return names
}

// runsOn returns the reason why a service is not wanted, with the microdomains on which it
// runs all the same.
func runsOn(reason string, microdomains []string) string {
	return reason + "; it is built into " + strings.Join(microdomains, ", ") + " and runs there all the same"
}
