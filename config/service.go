package config

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Service is the service.toml that a service brings along in its folder: how
// its maker wants it run. All of it may be missing.
//
//	version = "1.2.0"
//	release_url = "https://example.com/web/1.2.0"  # release notes of this version
//	release_summary = "Faster."     # the same in short
//	command = ["./web", "-v"]       # run directly in the folder, without make
//	target = "run"                  # for make; not with command
//	port = 8080
//	environment = { COLOUR = "blue" }
//	variables = ["COLOUR", "MQTT_*"]  # that the dominion may set where domain.toml says accept = "local"
//	restart = { policy = "always", delay = "1s", max_delay = "1m" }
//	health = { command = ["./well"], interval = "5s", timeout = "1s", failures = 3 }
//	start_timeout = "2m"            # health: or one of http, tcp, mqtt and notify
//	stop_timeout = "10s"
//
// The start command wins where it sets something (Complete):
//
//   - version, release notes, command and variables are the service's alone.
//   - target, port: the start command's, unless it has none. With command
//     there is no make and no target.
//   - environment: of both; the start command's value where both have one.
//   - health: the start command's as a whole, unless it has none. A health
//     command comes from here alone.
//   - restart (as a whole), start_timeout and stop_timeout: a start command
//     carries them always, so one that equals the built-in default counts as
//     not set: then what is written here is taken.
type Service struct {
	File         string // that it was read from; "" where there is none
	Version      string
	ReleaseURL   string // where the release notes of the version are
	Summary      string // the release notes in short
	Command      []string
	Target       string
	Port         int
	Environment  map[string]string
	Variables    []string                // names that the dominion may set, or how they begin and a *
	Restart      *services.RestartPolicy // nil: not set
	Health       *ServiceHealth          // nil: not set
	StartTimeout time.Duration           // 0: not set
	StopTimeout  time.Duration           // 0: not set
}

// ServiceHealth is a health check. Command is the fourth kind beside those of
// services.Health: exit code 0 is healthy.
type ServiceHealth struct {
	services.Health
	Command []string
}

// LoadService reads a service.toml. One that is not there is the zero Service.
// An error is of type Faults.
func LoadService(file string) (Service, error) {
	text, err := read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Service{}, nil
	}
	if err != nil {
		return Service{}, Faults{unreadable(file, err)}
	}
	return ParseService(file, text)
}

// ParseService is LoadService for the text of a file that the caller has read.
func ParseService(file, text string) (Service, error) {
	s := Service{File: file}
	l, root := openText(file, text, "", nil)
	l.folder = absolute(filepath.Dir(file))
	if root != nil {
		root.ownService(&s)
	}
	if err := l.finish(); err != nil {
		return Service{}, err
	}
	return s, nil
}

// Complete returns a start command's spec with what the service itself says
// filled in where the start command sets nothing, by the rules above, and the
// health command, nil where the spec's Health says how. It changes neither its
// receiver nor the maps of spec.
func (s Service) Complete(spec topics.Spec) (full topics.Spec, healthCommand []string) {
	usual := services.Default("").Spec(nil)
	if spec.Target == "" {
		spec.Target = s.Target
	}
	if s.Command != nil {
		spec.Target = ""
	}
	if spec.Port == 0 {
		spec.Port = s.Port
	}
	if len(s.Environment) > 0 {
		all := maps.Clone(s.Environment)
		maps.Copy(all, spec.Environment)
		spec.Environment = all
	}
	if spec.Restart == (topics.RestartPolicy{}) {
		spec.Restart = usual.Restart
	}
	if r := s.Restart; r != nil && spec.Restart == usual.Restart {
		spec.Restart = topics.RestartPolicy{Policy: r.Policy, Delay: topics.Seconds(r.Delay), MaxDelay: topics.Seconds(r.MaxDelay)}
	}
	spec.StartTimeout = choose(spec.StartTimeout, s.StartTimeout, usual.StartTimeout)
	spec.StopTimeout = choose(spec.StopTimeout, s.StopTimeout, usual.StopTimeout)
	if spec.Health != nil && *spec.Health == (topics.HealthCheck{}) {
		spec.Health = nil // as the hub writes "no check"
	}
	if h := s.Health; h != nil && spec.Health == nil {
		spec.Health = &topics.HealthCheck{
			HTTP: h.HTTP, TCP: h.TCP, MQTT: h.MQTT, Payload: h.Payload, Notify: h.Notify, Watchdog: topics.Seconds(h.Watchdog),
			Interval: topics.Seconds(h.Interval), Timeout: topics.Seconds(h.Timeout), Failures: h.Failures,
		}
		healthCommand = h.Command
	}
	return spec, healthCommand
}

func choose(ordered topics.Seconds, own time.Duration, usual topics.Seconds) topics.Seconds {
	switch {
	case ordered != 0 && ordered != usual:
		return ordered
	case own != 0:
		return topics.Seconds(own)
	}
	return usual
}

// Declares reports whether the service lets the dominion set a variable.
func (s Service) Declares(variable string) bool {
	return slices.ContainsFunc(s.Variables, func(declared string) bool {
		begins, open := strings.CutSuffix(declared, "*")
		return declared == variable || open && strings.HasPrefix(variable, begins)
	})
}

// declared reads the names of variables, of which each may end in a *.
func (t *table) declared(key string, to *[]string) {
	t.list(key, to)
	for _, name := range *to {
		if begins, open := strings.CutSuffix(name, "*"); !topics.ValidVariable(begins) && (begins != "" || !open) {
			t.report(key, key+` = ["COLOUR", "MQTT_*"]`, "%s is not a valid name of an environment variable", quote(name))
		}
	}
}

func (t *table) ownService(s *Service) {
	defer t.close()
	if t.text("version", &s.Version) && s.Version != "" && !services.ValidVersion(s.Version) {
		t.fault("version", `write it as "1.2.0"`, "%s is no version", quote(s.Version))
	}
	t.releaseNotes(s)
	t.command("command", &s.Command)
	t.text("target", &s.Target)
	if t.valid("target") && s.Target != "" && t.set("command") {
		t.fault("target", "take one of them out", "is for make, which command does without")
	}
	t.number("port", &s.Port)
	t.pairs("environment", &s.Environment, services.CheckEnvironment)
	t.declared("variables", &s.Variables)
	d := services.Default("service") // what is judged: the defaults and what is set here
	d.Target, d.Port = s.Target, s.Port
	if restart := t.sub("restart"); t.has("restart") {
		restart.restart(&d.Restart)
		s.Restart = &d.Restart
	}
	kinds := 1
	if health := t.sub("health"); t.has("health") && t.valid("health") {
		s.Health = health.ownHealth()
		judged := s.Health.Health
		if kinds = s.Health.kinds(); kinds != 1 || s.Health.Command != nil { // one kind, whatever is told below
			judged.TCP, judged.MQTT, judged.Notify = judged.HTTP == "", "", false
			if s.Health.MQTT != "" {
				judged.Payload = ""
			}
			if s.Health.Notify {
				judged.Watchdog = 0
			}
		}
		d.Health = &judged
	}
	if t.duration("start_timeout", &d.StartTimeout) && t.set("start_timeout") {
		s.StartTimeout = d.StartTimeout
	}
	if t.duration("stop_timeout", &d.StopTimeout) && t.set("stop_timeout") {
		s.StopTimeout = d.StopTimeout
	}
	faults := slices.DeleteFunc(services.Validate([]services.Definition{d}), func(f services.Fault) bool { return !t.valid(f.Key) })
	for _, f := range faults {
		t.fault(f.Key, f.Hint, "%s", f.Message)
	}
	if kinds != 1 {
		t.fault("health", "write one of command, http, tcp, mqtt and notify", "%d kinds of check", kinds)
	}
}

func (h ServiceHealth) kinds() int {
	n := 0
	for _, set := range []bool{h.HTTP != "", h.TCP, h.MQTT != "", h.Notify, h.Command != nil} {
		if set {
			n++
		}
	}
	return n
}

// maxSummary is how many bytes of release notes Home Assistant shows.
const maxSummary = 255

func (t *table) releaseNotes(s *Service) {
	if t.text("release_url", &s.ReleaseURL) && s.ReleaseURL != "" && !topics.ValidURL(s.ReleaseURL) {
		t.fault("release_url", `write it as "https://example.com/web/1.2.0"`, "%s is no http or https URL of letters, digits and -._~:/?#[]@+,=%%", quote(s.ReleaseURL))
	}
	if t.text("release_summary", &s.Summary) && len(s.Summary) > maxSummary {
		t.fault("release_summary", "put the rest where release_url is", "%d bytes are more than %d", len(s.Summary), maxSummary)
	}
}

func (t *table) ownHealth() *ServiceHealth {
	defer t.close()
	var h ServiceHealth
	t.check(&h.Health)
	if !t.command("command", &h.Command) {
		h.Command = []string{""} // it is the kind of check, whatever is wrong with it
	}
	return &h
}

// command reads a program and its arguments.
func (t *table) command(key string, to *[]string) bool {
	if _, isText := t.values[key].(string); isText {
		t.take(key)
		t.fault(key, key+` = ["./web", "-v"]: each word by itself, no shell reads it`, "must be a list of text")
		return false
	}
	if !t.list(key, to) || !t.set(key) {
		return t.valid(key)
	}
	switch {
	case len(*to) == 0 || (*to)[0] == "":
		t.fault(key, key+` = ["./web", "-v"]`, "names no program")
	case slices.ContainsFunc(*to, func(s string) bool { return strings.ContainsRune(s, 0) }):
		t.fault(key, "take it out", "holds a NUL byte")
	default:
		return true
	}
	return false
}
