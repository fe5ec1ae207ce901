package services

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

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

var (
	targetPattern      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	environmentPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// ValidTarget tells whether s may be given to make: nothing that make would
// take for an option or an assignment.
func ValidTarget(s string) bool { return s == "" || targetPattern.MatchString(s) }

// CheckEnvironment says what is wrong with a variable that the network wants
// to set: a name that is none, or one that would make the process run
// something that is not on the domain's own disk.
func CheckEnvironment(key, value string) error {
	switch {
	case !environmentPattern.MatchString(key):
		return fmt.Errorf("%q is no name of an environment variable", key)
	case slices.Contains([]string{"MAKEFLAGS", "GNUMAKEFLAGS", "MFLAGS", "MAKEFILES", "PATH", "SHELL", "BASH_ENV"}, key),
		strings.HasPrefix(key, "LD_"):
		return fmt.Errorf("%s may not be set: it would let the network choose what the domain executes", key)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("the value of %s holds a NUL byte", key)
	}
	return nil
}

// Validate returns every fault of a set of definitions.
func Validate(defs []Definition) []Fault {
	byName := make(map[string]Definition, len(defs))
	for _, d := range defs {
		byName[d.Name] = d
	}
	var faults []Fault
	for _, d := range defs {
		faults = append(faults, d.validate(byName)...)
	}
	for _, cycle := range findCycles(byName) {
		faults = append(faults, Fault{
			Service: cycle[0], Key: "dependencies",
			Message: "the dependencies go in a circle: " + strings.Join(append(cycle, cycle[0]), " → "),
			Hint:    "take one of them out: nothing in a circle could be started first",
		})
	}
	return faults
}

func (d Definition) validate(all map[string]Definition) []Fault {
	var faults []Fault
	fault := func(key, hint, message string, args ...any) {
		faults = append(faults, Fault{d.Name, key, fmt.Sprintf(message, args...), hint})
	}
	const label = "use a-z, 0-9 and - only, 63 characters at most, not at the ends a -"
	if !topics.ValidName(d.Name) {
		fault("", label, "%q is no name for a service", d.Name)
	}
	if d.Priority != Required && d.Priority != OnDemand {
		fault("priority", `use "required" or "dependency"`, "%q is no priority", d.Priority)
	}
	seen := make(map[string]bool)
	for _, dep := range d.Dependencies {
		switch _, known := all[dep.Service]; {
		case dep.Service == d.Name:
			fault("dependencies", "take it out", "%q depends on itself", d.Name)
		case !known:
			fault("dependencies", suggest(dep.Service, slices.Sorted(maps.Keys(all))), "there is no service %q", dep.Service)
		case seen[dep.Service]:
			fault("dependencies", "take one out", "%q is named twice", dep.Service)
		}
		seen[dep.Service] = true
	}
	for _, t := range d.Traits {
		if !topics.ValidName(t) {
			fault("traits", label, "%q is no trait", t)
		}
	}
	for _, n := range d.Domains {
		if !topics.ValidName(n) {
			fault("domains", label, "%q is no name of a domain", n)
		}
	}
	if d.Replicas < 0 {
		fault("replicas", "0 means: as the priority says", "%d is negative", d.Replicas)
	}
	if d.Port < 0 || d.Port > 65535 {
		fault("port", "use 1 to 65535, or leave it out: the domain chooses one", "%d is no port", d.Port)
	}
	if !ValidTarget(d.Target) {
		fault("target", "use letters, digits, _ . and -, a letter or digit first", "%q is no make target", d.Target)
	}
	for _, k := range slices.Sorted(maps.Keys(d.Environment)) {
		if err := CheckEnvironment(k, d.Environment[k]); err != nil {
			fault("environment", "take it out, or use a name of letters, digits and _", "%v", err)
		}
	}
	if f := d.EnvironmentFile; f != "" && !path.IsAbs(f) {
		fault("environment_file", "write the whole path on the domain", "%q is no absolute path", f)
	}
	switch d.Restart.Policy {
	case topics.RestartAlways, topics.RestartOnFailure, topics.RestartNever:
	default:
		fault("restart", "use always, on-failure or never", "%q is no restart policy", d.Restart.Policy)
	}
	if d.Restart.Delay < 0 || d.Restart.MaxDelay < d.Restart.Delay {
		fault("restart", "delay must be 0 or more, max_delay at least delay", "delay %v with max_delay %v", d.Restart.Delay, d.Restart.MaxDelay)
	}
	if d.StartTimeout <= 0 {
		fault("start_timeout", `write a duration such as "2m"`, "%v is no time to start in", d.StartTimeout)
	}
	if d.StopTimeout <= 0 {
		fault("stop_timeout", `write a duration such as "10s"`, "%v is no time to stop in", d.StopTimeout)
	}
	if d.Health != nil {
		d.Health.validate(fault)
	}
	return faults
}

func (h Health) validate(fault func(key, hint, message string, args ...any)) {
	kinds := 0
	for _, set := range []bool{h.HTTP != "", h.TCP, h.Notify} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		fault("health", `write one of http = "/path", tcp = true and notify = true`, "%d kinds of check", kinds)
	}
	if h.HTTP != "" && !strings.HasPrefix(h.HTTP, "/") {
		fault("health", `write http = "/health"`, "%q is no path", h.HTTP)
	}
	if h.Interval <= 0 || h.Timeout <= 0 || h.Failures < 1 {
		fault("health", "interval and timeout must be longer than nothing, failures at least 1", "interval %v, timeout %v, failures %d", h.Interval, h.Timeout, h.Failures)
	}
}

// suggest returns a hint that names the closest of the known names.
func suggest(name string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := Distance(name, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return "define it as [services." + name + "]"
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// Distance is the Levenshtein distance of two names, for "did you mean".
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
