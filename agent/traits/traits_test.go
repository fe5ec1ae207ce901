package traits

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"

	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics/topicstest"
)

// bench is a Watch and a clock.
type bench struct {
	*Watch
	t      *testing.T
	now    time.Time
	events chan Event
}

func on(t *testing.T, sources ...config.TraitSource) *bench {
	b := &bench{t: t, now: time.Unix(1000, 0), events: make(chan Event, 10)}
	b.Watch = New(sources, foreign.New(), run, func(e Event) { b.events <- e }, slog.New(slog.DiscardHandler))
	t.Cleanup(b.Close)
	return b
}

// after lets time pass, and looks whenever something is due.
func (b *bench) after(d time.Duration) *bench {
	for end := b.now.Add(d); ; {
		at := b.Next()
		if at.After(end) {
			b.now = end
			return b
		}
		if at.After(b.now) {
			b.now = at
		}
		b.Expire(b.now)
	}
}

func (b *bench) expect(traits ...string) {
	b.t.Helper()
	if got := b.Present(); !slices.Equal(got, traits) {
		b.t.Errorf("at %v: %q, want %q", b.now.Sub(time.Unix(1000, 0)), got, traits)
	}
}

func TestPath(t *testing.T) {
	dir := t.TempDir()
	b := on(t, config.TraitSource{Trait: "zigbee-stick", Path: filepath.Join(dir, "*Sonoff*")})
	b.Expire(b.now)
	b.expect()
	stick := filepath.Join(dir, "usb-ITead_Sonoff_Zigbee-if00")
	for _, f := range []string{stick, stick + "-port1"} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.after(time.Second).expect("zigbee-stick")
	if e := b.Environment(); len(e) != 1 || e["TRAIT_ZIGBEE_STICK"] != stick {
		t.Errorf("%q", e)
	}
	for _, f := range []string{stick, stick + "-port1"} {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	b.after(2 * time.Second).expect("zigbee-stick") // a driver may reset it
	b.after(2 * time.Second).expect()
	if e := b.Environment(); len(e) != 0 {
		t.Errorf("%q", e)
	}
}

// What comes back at once was not gone.
func TestReset(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stick")
	b := on(t, config.TraitSource{Trait: "stick", Path: file})
	for range 10 {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		b.after(time.Second).expect("stick")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		b.after(time.Second).expect("stick")
	}
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	flag := filepath.Join(dir, "flag")
	b := on(t, config.TraitSource{
		Trait: "gpu", Command: []string{"sh", "-c", "cat " + flag}, Interval: 5 * time.Second, Timeout: time.Minute,
	})
	b.Expire(b.now)
	b.Handle(<-b.events, b.now)
	b.expect()
	if err := os.WriteFile(flag, []byte("RTX\x1b[2J 9000\nsecond line"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.after(4 * time.Second).expect() // not run before its interval
	b.after(time.Second)
	b.Handle(<-b.events, b.now)
	b.expect("gpu")
	if e := b.Environment()["TRAIT_GPU"]; e != "" {
		t.Errorf("what is not a value of a trait was given to services: %q", e)
	}
	if err := os.WriteFile(flag, []byte(" RTX 9000 \nsecond line"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.after(5 * time.Second)
	b.Handle(<-b.events, b.now)
	if e := b.Environment()["TRAIT_GPU"]; e != "RTX 9000" {
		t.Errorf("%q", e)
	}
}

func TestTopic(t *testing.T) {
	b := on(t,
		config.TraitSource{Trait: "night", MQTT: "home/mode", Payload: "night"},
		config.TraitSource{Trait: "mode", MQTT: "home/mode"},
	)
	if got := b.Topics(); !slices.Equal(got, []string{"home/mode"}) {
		t.Errorf("%q", got)
	}
	b.Subscribed("home/mode", true, b.now)
	_ = b.Message("home/mode", []byte("day"), true, b.now)
	b.after(0).expect("mode")
	_ = b.Message("home/mode", []byte("night"), true, b.now)
	b.after(0).expect("mode", "night")
	if e := b.Environment()["TRAIT_MODE"]; e != "night" {
		t.Errorf("%q", e)
	}
	_ = b.Message("other", nil, true, b.now)
	// The hub is away: the last value stays in force.
	b.Subscribed("home/mode", false, b.now)
	b.after(time.Hour).expect("mode", "night")
	// It is back, and meanwhile what was retained was cleared.
	b.Subscribed("home/mode", true, b.now)
	b.after(time.Second).expect("mode", "night")
	b.after(5 * time.Second).expect()
	// Said again, and cleared by an empty payload.
	_ = b.Message("home/mode", []byte("night"), true, b.now)
	b.after(0).expect("mode", "night")
	_ = b.Message("home/mode", nil, true, b.now)
	b.after(5 * time.Second).expect()
}

// What make or a shell would interpret changes nothing, and is named with its
// topic. A payload that the configuration names is a fact, whatever it holds,
// but is no value.
func TestHostilePayloads(t *testing.T) {
	b := on(t,
		config.TraitSource{Trait: "mode", MQTT: "home/mode"},
		config.TraitSource{Trait: "json", MQTT: "home/mode", Payload: `{"a":"$(b)"}`},
	)
	b.Subscribed("home/mode", true, b.now)
	for _, attack := range topicstest.Attacks("F") {
		if err := b.Message("home/mode", []byte(attack), true, b.now); err == nil || !strings.Contains(err.Error(), "home/mode") || !strings.Contains(err.Error(), "trait mode") {
			t.Errorf("%q: %v", attack, err)
		}
		b.after(time.Second).expect()
	}
	if err := b.Message("home/mode", []byte("day\n"), true, b.now); err != nil {
		t.Error(err)
	}
	for _, attack := range topicstest.Attacks("F") {
		_ = b.Message("home/mode", []byte(attack), true, b.now)
		if e := b.Environment(); len(e) != 1 || e["TRAIT_MODE"] != "day" {
			t.Errorf("after %q: %q", attack, e)
		}
	}
	_ = b.Message("home/mode", []byte(`{"a":"$(b)"}`), true, b.now)
	b.after(0).expect("json", "mode")
	if e := b.Environment(); e["TRAIT_MODE"] != "day" || e["TRAIT_JSON"] != "" {
		t.Errorf("%q", e)
	}
}

// A path or the output of a command that is not a value of a trait is not given
// to a service; the trait is there.
func TestHostilePath(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "stick$(touch F)"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := on(t, config.TraitSource{Trait: "stick", Path: dir + "/stick*"})
	b.after(time.Second).expect("stick")
	if e := b.Environment(); e["TRAIT_STICK"] != "" {
		t.Errorf("%q", e)
	}
}

func TestNothingToWatch(t *testing.T) {
	b := on(t)
	if at := b.Next(); !at.IsZero() {
		t.Error("it wants to look")
	}
	b.expect()
}

// run is what the agent's supervisor does, without what it does about leftovers.
func run(ctx context.Context, command []string, _ int64) (string, error) {
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
	return string(out), err
}

// What is published and not retained does not count: after a restart nobody
// would know of it. The broker is asked again, once a second at most.
func TestTopicThatIsNotRetained(t *testing.T) {
	b := on(t, config.TraitSource{Trait: "night", MQTT: "home/mode", Payload: "night"})
	b.Subscribed("home/mode", true, b.now)
	b.after(3 * time.Second).expect()
	_ = b.Message("home/mode", []byte("night"), false, b.now)
	if got := b.Resubscribe(b.now); !slices.Equal(got, []string{"home/mode"}) {
		t.Fatalf("asked again: %q", got)
	}
	b.Subscribed("home/mode", true, b.now) // and nothing is retained
	b.after(5 * time.Second).expect()

	_ = b.Message("home/mode", []byte("night"), false, b.now)
	b.Resubscribe(b.now)
	_ = b.Message("home/mode", []byte("night"), true, b.now) // before the broker's answer
	b.Subscribed("home/mode", true, b.now)
	b.after(0).expect("night")
	_ = b.Message("home/mode", []byte("day"), false, b.now)
	if got := b.Resubscribe(b.now); got != nil {
		t.Errorf("asked again at once: %q", got)
	}
	b.now = b.now.Add(time.Second)
	if got := b.Resubscribe(b.now); len(got) != 1 {
		t.Errorf("not asked again: %q", got)
	}
	_ = b.Message("home/mode", []byte("night"), true, b.now) // "day" was not retained
	b.after(5 * time.Second).expect("night")
}

// A command that tells nothing is a problem with its remedy; one that fails says
// that the trait is not there.
func TestCommandsThatTellNothing(t *testing.T) {
	for want, command := range map[string][]string{
		"there is no program nvidia-smy in PATH": {"nvidia-smy", "-L"},
		"cannot run /etc/hostname":               {"/etc/hostname"},
		"sh ended with code 127":                 {"sh", "-c", "nosuchprogram"},
		"sleep did not end within 50ms":          {"sleep", "100"},
		"cannot run sh":                          {"sh", "-c", "kill -SEGV $$"},
		"":                                       {"false"},
	} {
		b := on(t, config.TraitSource{Trait: "gpu", Command: command, Interval: time.Second, Timeout: 50 * time.Millisecond})
		if command[0] != "sleep" {
			b.sources[0].Timeout = time.Minute
		}
		b.Expire(b.now)
		b.Handle(<-b.events, b.now)
		got := strings.Join(b.Problems(b.now), "\n")
		if want == "" && got != "" || want != "" && (!strings.Contains(got, "the trait gpu is not offered: "+want) || !strings.Contains(got, "[traits_from]")) {
			t.Errorf("%q: problem %q", command, got)
		}
	}
}

func TestFlappingTrait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stick")
	b := on(t, config.TraitSource{Trait: "stick", Path: path})
	for range 3 {
		if got := b.Problems(b.now); got != nil {
			t.Fatalf("%q too soon", got)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		b.after(5 * time.Second).expect("stick")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		b.after(5 * time.Second).expect()
	}
	if got := b.Problems(b.now); len(got) != 1 || !strings.Contains(got[0], "came and went 6 times") {
		t.Errorf("%q", got)
	}
	if got := b.Problems(b.now.Add(flapsWithin)); got != nil {
		t.Errorf("%q for ever", got)
	}
}
