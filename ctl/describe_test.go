package ctl

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A description has all that the hub tells of a service, and nothing twice.
func TestDescriptionIsWhole(t *testing.T) {
	v := topics.Service{
		Service: "web", State: topics.Running, Reason: "required", Problem: "crashed on pi: exited with code 3",
		LastError: &topics.ServiceError{At: topics.Time{Time: noon.Add(-2 * time.Minute)}, Domain: "pi", Message: "exited with code 3\x1b[2J"},
		Link:      "http://192.168.1.20:8080/",
		Update:    topics.ServiceUpdate{Summary: "Faster.", ReleaseURL: "https://example.com/web/1.2.0"},
	}
	text := func() string {
		var b bytes.Buffer
		if err := RenderDescription(&b, Description{Service: &v}, Style{Now: noon}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, want := range []string{
		"  problem      crashed on pi: exited with code 3\n",
		"  last error   2m ago on pi: exited with code 3\n",
		"  page         http://192.168.1.20:8080/\n",
		"  notes        Faster. https://example.com/web/1.2.0\n",
	} {
		if got := text(); !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, got)
		}
	}
	v.Reason = "pi: " + v.Problem
	if got := text(); strings.Contains(got, "  problem ") {
		t.Errorf("the problem stands there twice:\n%s", got)
	}
}
