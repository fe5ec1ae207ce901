package commands

import "testing"

func TestAnswered(t *testing.T) {
	c := New()
	web, report := c.Add("web"), c.Add("")
	if web == report || web == "" {
		t.Fatalf("transactions %q and %q", web, report)
	}
	for _, step := range []struct {
		what, transaction, service string
		awaited                    bool
	}{
		{"of nobody", "forged", "", false},
		{"about a service", web, "web", true},
		{"twice", web, "", false},
		{"about none", report, "", true},
	} {
		if service, awaited := c.Answered(step.transaction); service != step.service || awaited != step.awaited {
			t.Errorf("an answer %s: %q, %v, want %q, %v", step.what, service, awaited, step.service, step.awaited)
		}
	}
}

// Agents that never answer do not fill the memory, and the newest command is awaited.
func TestBound(t *testing.T) {
	c := New()
	for range 3 * maxAwaited {
		last := c.Add("web")
		if n := len(c.services); n > maxAwaited {
			t.Fatalf("%d are awaited, want %d at most", n, maxAwaited)
		}
		if _, is := c.services[last]; !is {
			t.Fatal("the newest is not awaited")
		}
	}
}
