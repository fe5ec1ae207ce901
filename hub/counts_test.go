package hub_test

import (
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// What has finished is not among the instances that should run and do not.
func TestCountsLeaveOutWhatHasFinished(t *testing.T) {
	inHome(t, `
[services.job]
priority = "required"
oneshot = true
[services.web]
priority = "required"
`, func(h *home) {
		a := h.agent("attic", nil, "job", "web")
		if err := a.join(); err != nil {
			h.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		code := 0
		a.change("job", func(i *topics.Instance) {
			i.State, i.Health, i.ExitCode = topics.Finished, topics.UnknownHealth, &code
		})
		time.Sleep(5 * time.Second)
		if s := h.status().Services; s != (topics.ServiceCount{Wanted: 1, Running: 1}) {
			h.Errorf("%+v, want 1 of 1: job has finished", s)
		}
		a.leave()
	})
}
