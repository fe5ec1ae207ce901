package planner_test

import (
	"testing"

	"github.com/jmbarzee/dominion/services/planner"
)

// A service may be asked about before it is planned: right after a reload that added it.
func TestServiceThatIsNotPlannedYet(t *testing.T) {
	if c := (planner.Plan{}).Services["web"].At("attic"); c != (planner.Choice{}) {
		t.Errorf("it is planned as %+v", c)
	}
}
