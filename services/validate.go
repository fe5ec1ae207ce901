package services

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/internal/nearest"
	"github.com/jmbarzee/dominion/topics"
)

// Fault is one thing wrong with a definition.
type Fault struct {
	Service string
	Key     string // of the definition, as TOML names it; empty: the service's name
	Message string // what is wrong
	Hint    string // what to do
}

func (f Fault) Error() string {
	s := "services." + f.Service
	if f.Key != "" {
		s += "." + f.Key
	}
	s += ": " + f.Message
	if f.Hint != "" {
		s += " (" + f.Hint + ")"
	}
	return s
}

// makeNames are the variables by which make itself is ordered about: it expands
// some of them whatever a Makefile says, and takes orders from the others.
var makeNames = []string{
	"CURDIR", "GNUMAKEFLAGS", "GPATH", "MAKE", "MAKECMDGOALS", "MAKEFILES", "MAKEFILE_LIST", "MAKEFLAGS", "MAKELEVEL",
	"MAKEOVERRIDES", "MAKE_COMMAND", "MAKE_HOST", "MAKE_RESTARTS", "MAKE_TERMERR", "MAKE_TERMOUT", "MAKE_VERSION",
	"MFLAGS", "SHELL", "SUFFIXES", "VPATH",
}

// CheckEnvironment returns what is wrong with a variable of a service's
// environment, wherever it comes from: a name that is none, or one of make's own.
// Which other variables the dominion may set is for the domain to say (accept).
func CheckEnvironment(key, value string) error {
	switch {
	case !topics.ValidVariable(key):
		return fmt.Errorf("%.80q is not a valid name of an environment variable", key)
	case slices.Contains(makeNames, key):
		return fmt.Errorf("%s may not be set: it is one of make's own names", key)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("the value of %s holds a NUL byte", key)
	}
	return nil
}

// CheckVariable returns what is wrong with a variable that the dominion sets: as
// CheckEnvironment, and a reference to a secret has a valid name.
func CheckVariable(key, value string) error {
	if err := CheckEnvironment(key, value); err != nil {
		return err
	}
	if _, _, err := topics.SecretName(value); err != nil {
		return fmt.Errorf("the value of %s: %w", key, err)
	}
	return nil
}

// Validate returns the faults of a set of definitions: every one, up to
// maxFaults.
func Validate(defs []Definition) []Fault {
	if len(defs) > MaxServices {
		return []Fault{{Message: fmt.Sprintf("%d services are more than %d", len(defs), MaxServices), Hint: "take some out"}}
	}
	byName := make(map[string]Definition, len(defs))
	for _, d := range defs {
		byName[d.Name] = d
	}
	names := slices.Sorted(maps.Keys(byName))
	var faults []Fault
	for _, d := range defs {
		if many := d.limitFaults(); many != nil {
			faults = append(faults, many...)
		} else {
			faults = append(faults, d.validate(byName, names)...)
		}
		if len(faults) >= maxFaults {
			return faults[:maxFaults]
		}
	}
	for _, cycle := range findCycles(byName, maxCycles) {
		faults = append(faults, Fault{
			Service: cycle[0], Key: "dependencies",
			Message: "the dependencies go in a circle: " + circle(cycle),
			Hint:    "take one of them out: nothing in a circle could be started first",
		})
	}
	return faults
}

// circle writes the names of a circle, a long one cut short.
func circle(names []string) string {
	const shown = 16
	all := append(slices.Clone(names), names[0])
	if len(all) > shown {
		all = append(all[:shown], "…")
	}
	return strings.Join(all, " → ")
}

const nameHint = "use a-z, 0-9 and - only, 63 characters at most, not at the ends a -"

// validate returns the faults of one of all definitions, whose names are sorted.
func (d Definition) validate(all map[string]Definition, names []string) []Fault {
	var faults []Fault
	fault := func(key, hint, message string, args ...any) {
		faults = append(faults, Fault{d.Name, key, fmt.Sprintf(message, args...), hint})
	}
	if !topics.ValidName(d.Name) {
		fault("", nameHint, "%.80q is not a valid service name", d.Name)
	}
	if d.Priority != Required && d.Priority != OnDemand {
		fault("priority", `use "required" or "dependency"`, "%.80q is not a valid priority", d.Priority)
	}
	seen := make(map[string]bool)
	for _, dep := range d.Dependencies {
		switch _, known := all[dep.Service]; {
		case dep.Service == d.Name:
			fault("dependencies", "take it out", "%.80q depends on itself", d.Name)
		case !known:
			fault("dependencies", suggest(dep.Service, names), "there is no service %.80q", dep.Service)
		case seen[dep.Service]:
			fault("dependencies", "take one out", "%.80q is named twice", dep.Service)
		}
		seen[dep.Service] = true
	}
	for _, t := range d.Traits {
		if !topics.ValidName(t) {
			fault("traits", nameHint, "%.80q is not a valid trait", t)
		}
	}
	for _, n := range d.Domains {
		if !topics.ValidName(n) {
			fault("domains", nameHint, "%.80q is not a valid domain name", n)
		}
	}
	if d.Replicas < 0 {
		fault("replicas", "0 means: as the priority says", "%d is negative", d.Replicas)
	}
	if d.Port < 0 || d.Port > 65535 {
		fault("port", "use 1 to 65535, or leave it out: the domain chooses one", "%d is not a valid port", d.Port)
	}
	if d.Target != "" && !topics.ValidTarget(d.Target) {
		fault("target", "use letters, digits, _ . and -, a letter or digit first", "%.80q is not a valid make target", d.Target)
	}
	for _, k := range slices.Sorted(maps.Keys(d.Environment)) {
		if err := CheckVariable(k, d.Environment[k]); err != nil {
			fault("environment", "take it out, or use a name of letters, digits and _", "%v", err)
		}
	}
	if f := d.EnvironmentFile; f != "" && !path.IsAbs(f) {
		fault("environment_file", "write the whole path on the domain", "%.80q is not an absolute path", f)
	}
	switch d.Restart.Policy {
	case topics.RestartAlways, topics.RestartOnFailure, topics.RestartNever:
	default:
		fault("restart", "use always, on-failure or never", "%.80q is not a valid restart policy", d.Restart.Policy)
	}
	if d.Oneshot && d.Restart.Policy == topics.RestartAlways {
		fault("oneshot", "use the policy on-failure or never, or take oneshot out", "what is always started again is never done")
	}
	if d.Restart.Delay < 0 || d.Restart.MaxDelay < d.Restart.Delay {
		fault("restart", "delay must be 0 or more, max_delay at least delay", "delay %v with max_delay %v", d.Restart.Delay, d.Restart.MaxDelay)
	}
	if d.StartTimeout <= 0 {
		fault("start_timeout", `write a duration such as "2m"`, "%v is not a valid start timeout", d.StartTimeout)
	}
	if d.StopTimeout <= 0 {
		fault("stop_timeout", `write a duration such as "10s"`, "%v is not a valid stop timeout", d.StopTimeout)
	}
	if d.Health != nil {
		d.Health.validate(fault)
	}
	if d.Exclusive && d.Replicas > 1 {
		fault("exclusive", "take one of them out", "never two at once, and %d replicas", d.Replicas)
	}
	if d.Exclusive && d.Scale != nil {
		fault("exclusive", "take one of them out", "never two at once, and a number that follows a figure")
	}
	if d.Needs.CPU < 0 {
		fault("needs", "write the cores that an instance uses, as cpu = 0.5", "%v cores are negative", d.Needs.CPU)
	}
	if d.Scale != nil {
		d.Scale.validate(d, fault)
	}
	if d.Update != UpdateAuto && d.Update != UpdateManual {
		fault("update", `use "auto" or "manual"`, "%.80q is not a valid value", d.Update)
	}
	return faults
}

// Topic returns the topic whose figure the number follows, "" where that is a
// figure of the instances.
func (s Scale) Topic() string {
	topic, _ := strings.CutPrefix(s.Metric, ScaleByMQTT)
	if topic == s.Metric {
		return ""
	}
	return topic
}

// leastMemory is below what the smallest program of a service uses, in bytes. A
// target without a unit is taken for megabytes by whoever writes it.
const leastMemory = 100_000

// validate reports the faults of a scale to fault.
func (s Scale) validate(d Definition, fault func(key, hint, message string, args ...any)) {
	const longest = 256 // bytes of a path into a payload
	switch topic := s.Topic(); {
	case topic != "":
		// subscribed to, a topic below $share is a part of another one: MQTT 5, 4.8.2
		if !validTopic(topic) || strings.HasPrefix(topic, "$share/") {
			fault("scale.metric", `write metric = "mqtt:home/queue"`, "%.80q is not a valid topic", topic)
		}
		if len(s.Field) > longest {
			fault("scale.field", `write a path, as field = "queue.length"`, "%d bytes are too long for a path", len(s.Field))
		}
	case s.Metric == "":
		fault("scale.metric", `write metric = "cpu", "memory" or "mqtt:<topic>"`, "metric is missing")
	case s.Metric != ScaleByCPU && s.Metric != ScaleByMemory:
		fault("scale.metric", `use metric = "cpu", "memory" or "mqtt:<topic>"`, "%.80q is not a valid metric", s.Metric)
	case s.Field != "":
		fault("scale.field", `take field out, or use metric = "mqtt:<topic>"`, "field %.80q belongs to the payload of a topic", s.Field)
	}
	switch {
	case s.Min < 1:
		fault("scale.min", "write 1 or more; `stop` ends the last one", "min %d is not above zero", s.Min)
	case s.Max == 0:
		fault("scale.max", "write how many there may be at most, as max = 3", "max is missing")
	case s.Max < s.Min:
		fault("scale.max", "write max of at least min", "min %d with max %d", s.Min, s.Max)
	case len(d.Domains) > 0 && s.Max > len(d.Domains):
		fault("scale.max", "a domain runs one instance: write a lower max, or name more domains", "max %d, and it is pinned to %d", s.Max, len(d.Domains))
	}
	switch {
	case s.Target == 0:
		fault("scale.target", "write what one instance takes of the figure, as target = 0.7", "target is missing")
	case !(s.Target > 0):
		fault("scale.target", "write what one instance takes of the figure, as target = 0.7", "target %v is not above zero", s.Target)
	case s.Metric == ScaleByMemory && s.Target < leastMemory:
		fault("scale.target", fmt.Sprintf(`write a size, as target = "%gMB"`, s.Target), "%g bytes of memory are less than any program uses", s.Target)
	}
	if s.Cooldown <= 0 {
		fault("scale.cooldown", `write a duration such as cooldown = "1m"`, "%v is not a valid cooldown", s.Cooldown)
	}
	if s.MaxAge != 0 && s.Topic() == "" {
		fault("scale.max_age", `take max_age out, or use metric = "mqtt:<topic>"`, "an age belongs to the figure of a topic")
	} else if s.MaxAge != 0 && s.MaxAge <= s.Cooldown {
		fault("scale.max_age", fmt.Sprintf("write max_age = %q or more", 3*s.Cooldown), "a figure of %v would be too old before a cooldown of %v is over", s.MaxAge, s.Cooldown)
	}
	if d.Replicas > 0 {
		fault("scale", "take one of them out", "a number that follows a figure, and %d replicas", d.Replicas)
	}
	if d.Restart.Policy == topics.RestartNever || d.Oneshot {
		fault("scale", "take one of them out", "a number that follows a figure, of a service that ends for good")
	}
}

// validTopic reports whether one may publish at s: MQTT 5, 4.7.
func validTopic(s string) bool {
	return s != "" && len(s) <= 1024 && !strings.ContainsAny(s, "+#\x00")
}

// validate reports the faults of a health check to fault.
func (h Health) validate(fault func(key, hint, message string, args ...any)) {
	kinds := 0
	for _, set := range []bool{h.HTTP != "", h.TCP, h.MQTT != "", h.Notify} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		fault("health", `write one of http = "/path", tcp = true, mqtt = "topic" and notify = true`, "%d kinds of check", kinds)
	}
	if h.HTTP != "" && !strings.HasPrefix(h.HTTP, "/") {
		fault("health", `write http = "/health"`, "%.80q is not a valid path", h.HTTP)
	}
	if h.MQTT != "" && !validTopic(h.MQTT) {
		fault("health", `write mqtt = "home/web/status"`, "%.80q is not a valid topic", h.MQTT)
	}
	if h.Payload != "" && h.MQTT == "" {
		fault("health", `write mqtt = "topic" too, or take payload out`, "payload %.80q belongs to a topic", h.Payload)
	}
	if h.Watchdog != 0 && !h.Notify {
		fault("health", "write notify = true too, or take watchdog out", "watchdog belongs to notify")
	}
	if h.Interval <= 0 || h.Timeout <= 0 || h.Failures < 1 {
		fault("health", "interval and timeout must be longer than nothing, failures at least 1", "interval %v, timeout %v, failures %d", h.Interval, h.Timeout, h.Failures)
	}
}

// suggest returns a hint that names the closest of the known names.
func suggest(name string, known []string) string {
	if !topics.ValidName(name) {
		return nameHint
	}
	if best := nearest.Find(name, known, 2); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "define it as [services." + name + "]"
}
