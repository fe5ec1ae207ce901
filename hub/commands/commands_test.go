package commands

import "testing"

func TestAnswered(t *testing.T) {
	c := New()
	web, report := c.Add(Command{Service: "web", Domain: "pi"}), c.Add(Command{Domain: "pi", Answer: 7})
	if web == report || web == "" {
		t.Fatalf("transactions %q and %q", web, report)
	}
	for _, step := range []struct {
		what, domain, transaction string
		want                      Command
		awaited                   bool
	}{
		{"of nobody", "pi", "forged", Command{}, false},
		{"of another domain", "attic", web, Command{}, false},
		{"about a service", "pi", web, Command{Service: "web", Domain: "pi"}, true},
		{"twice", "pi", web, Command{}, false},
		{"to who asked", "pi", report, Command{Domain: "pi", Answer: 7}, true},
	} {
		if got, awaited := c.Answered(step.domain, step.transaction); got != step.want || awaited != step.awaited {
			t.Errorf("an answer %s: %+v, %v, want %+v, %v", step.what, got, awaited, step.want, step.awaited)
		}
	}
}

// Numbers only grow: within an epoch, from one to the next, and where the hub of a backup
// comes back with an earlier one.
func TestNumber(t *testing.T) {
	c := New()
	var last uint64
	for _, epoch := range []uint64{0, 0, 1, 1, 2, 1, 7, 1 << 31, 1 << 62, 1 << 63} {
		if n := c.Number(epoch); n <= last {
			t.Errorf("number %d of epoch %d follows %d", n, epoch, last)
		} else {
			last = n
		}
	}
	if n := New().Number(8); n <= 7*numbersOfEpoch+1000 || n >= 9*numbersOfEpoch {
		t.Errorf("the first number of a later run is %d", n)
	}
}

// Agents that never answer do not fill the memory, and the newest command is awaited.
func TestBound(t *testing.T) {
	c := New()
	for range 3 * maxAwaited {
		last := c.Add(Command{Service: "web"})
		if n := len(c.awaited); n > maxAwaited {
			t.Fatalf("%d are awaited, want %d at most", n, maxAwaited)
		}
		if _, is := c.awaited[last]; !is {
			t.Fatal("the newest is not awaited")
		}
	}
}
