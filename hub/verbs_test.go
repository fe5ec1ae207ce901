package hub

import (
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// Each row of the table of verbs has a handler, and each handler a row.
func TestEachVerbHasAHandler(t *testing.T) {
	verbs := topics.Verbs()
	for _, v := range verbs {
		if handlers[v.Name] == nil {
			t.Errorf("%s has no handler", v.Name)
		}
	}
	if len(handlers) != len(verbs) {
		t.Errorf("there are %d handlers of %d verbs", len(handlers), len(verbs))
	}
}
