package planner

import (
	"fmt"

	"github.com/jmbarzee/dominion/services"
)

// Scaled is the number of instances that a figure calls for, of a service
// that is scaled by one.
type Scaled struct {
	Number int
	Reason string // why, in words: "scaled to 3: …"
}

// scaled returns the number of a service that is scaled by a figure. The
// figure of a new one was not read yet: it starts at its minimum.
func (h *home) scaled(name string, s *services.Scale) int {
	return min(max(h.numbers[name].Number, s.Min), s.Max)
}

// numberReason returns why a service that is on has its number of instances, where a
// figure decides that or would.
func (h *home) numberReason(name string) string {
	s, set := h.defs[name].Scale, h.overrides[name].Replicas
	switch {
	case s == nil:
		return ""
	case set > 0:
		return fmt.Sprintf("; %d by order, not by its figure (`scale %s 0` gives it back)", set, name)
	case h.numbers[name].Reason == "":
		return fmt.Sprintf("; scaled from %d to %d", s.Min, s.Max)
	}
	return "; " + h.numbers[name].Reason
}

// excessReason begins the reason for a copy that is stopped because others are enough.
func (h *home) excessReason(name string) string {
	if why := h.numbers[name].Reason; h.defs[name].Scale != nil && h.overrides[name].Replicas == 0 && why != "" {
		return why + "; one copy too many: "
	}
	return "one copy too many: "
}
