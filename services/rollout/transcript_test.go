package rollout_test

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/rollout"
	"github.com/jmbarzee/dominion/services/transcript"
	"github.com/jmbarzee/dominion/topics"
)

// TestTranscripts replays testdata/*.txt. "case" begins anew; the lines after it
// describe what is known, each instance once more where it changed; "decide"
// decides, and what comes of it stands up to the next empty line.
//
//	same | first                   the definition is the stable one; there is no stable one
//	refused WHY
//	bad VERSION WHY                it did not get healthy
//	manual [VERSION…]              updates are manual, and these were asked for
//	on NAME DEFINITION [STATE[:HEALTH]] [offline] [leaving] [v=1] [has=2] [fresh]
//	        [given=2] [waits] [tried] [proved] [late] [excused] [crashes=3]
//	gone NAME
//
// An instance took what was ordered unless it "waits", and its catalog is
// settled unless it is "fresh".
func TestTranscripts(t *testing.T) { transcript.Test(t, replay) }

func replay(t *testing.T, text string) string {
	var out strings.Builder
	in := rollout.Input{HasStable: true}
	skip := false
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if skip {
			skip = line != ""
			continue
		}
		fmt.Fprintln(&out, line)
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		rest := strings.Join(words[1:], " ")
		switch words[0] {
		case "case":
			in = rollout.Input{HasStable: true}
		case "same":
			in.Same = true
		case "first":
			in.HasStable = false
		case "refused":
			in.Refused = rest
		case "bad":
			if in.RefusedVersions == nil {
				in.RefusedVersions = make(map[string]string)
			}
			in.RefusedVersions[words[1]] = strings.Join(words[2:], " ")
		case "needs":
			r, err := services.ParseRange(words[2])
			if err != nil {
				t.Fatal(err)
			}
			in.Needs = append(in.Needs, rollout.Need{By: words[1], Service: "lib", Version: r})
		case "manual":
			in.Manual, in.Approved = true, words[1:]
		case "on", "gone":
			in.Instances = slices.DeleteFunc(in.Instances, func(i rollout.Instance) bool { return i.Domain == words[1] })
			if words[0] == "on" {
				in.Instances = append(in.Instances, instance(t, words[1:]))
			}
		case "decide":
			write(&out, rollout.Decide(in))
			skip = true
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
	return out.String()
}

func instance(t *testing.T, words []string) rollout.Instance {
	i := rollout.Instance{Domain: words[0], Online: true, CatalogSettled: true, Applied: true, State: topics.Running, Health: topics.Healthy}
	names := map[string]rollout.Definition{"none": rollout.None, "other": rollout.Other, "stable": rollout.Stable, "next": rollout.Next}
	known := false
	if i.Runs, known = names[words[1]]; !known {
		t.Fatalf("%q is no definition", words[1])
	}
	if i.Runs == rollout.None {
		i.State, i.Health, i.Applied = "", "", false
	}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "offline":
			i.Online = false
		case "leaving":
			i.Draining = true
		case "v":
			i.Version = value
		case "has":
			i.Catalog = value
		case "given":
			i.RestartedFor = value
		case "fresh":
			i.CatalogSettled = false
		case "waits":
			i.Applied = false
		case "tried":
			i.Changed = true
		case "proved":
			i.Proved = true
		case "late":
			i.Overdue = true
		case "excused":
			i.Excused = true
		case "crashes":
			i.Crashes, _ = strconv.Atoi(value)
		default:
			state, health, _ := strings.Cut(w, ":")
			i.State, i.Health = topics.State(state), topics.UnknownHealth
			if !slices.Contains(topics.States(), i.State) {
				t.Fatalf("%q is not a valid state", w)
			}
			if health != "" {
				i.Health = topics.Health(health)
			}
		}
	}
	return i
}

func write(out *strings.Builder, o rollout.Output) {
	fmt.Fprintln(out, "----")
	if f := o.Failure; f != nil {
		what := "the definition"
		if f.Version != "" {
			what = "version " + f.Version
		}
		fmt.Fprintf(out, "refuse %s: on %s %s\n\n", what, f.Domain, f.Why)
		return
	}
	for _, i := range o.Orders {
		what := []string{"keep", "other", "stable", "next"}[i.Runs]
		if i.Restart != "" {
			what = "restart as " + i.Restart
		}
		fmt.Fprintf(out, "%s: %s", i.Domain, what)
		if i.Reason != "" {
			fmt.Fprintf(out, ", %s", i.Reason)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "= %d of %d", o.Updated, o.Total)
	for _, is := range []struct {
		so   bool
		word string
	}{{o.Active, "active"}, {o.Back, "back"}, {o.Done, "done"}} {
		if is.so {
			fmt.Fprintf(out, " %s", is.word)
		}
	}
	if o.Version != "" {
		fmt.Fprintf(out, " version %s", o.Version)
	}
	if o.Waits != "" {
		fmt.Fprintf(out, ", %s", o.Waits)
	}
	if o.Problem != "" {
		fmt.Fprintf(out, "\n! %s", o.Problem)
	}
	fmt.Fprint(out, "\n\n")
}
