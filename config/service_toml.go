package config

import (
	"errors"
	"fmt"
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
// its maker wants it run. All of it may be missing. Its keys are those of
// serviceFileSettings.
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
	// File is the one that it was read from; "" where there is none.
	File    string
	Version string
	// ReleaseURL is where the release notes of the version are.
	ReleaseURL string
	// Summary is the release notes in short.
	Summary     string
	Command     []string
	Target      string
	Port        int
	Environment map[string]string
	// Variables are the names that the dominion may set, or beginnings and a *.
	Variables []string
	// Restart and Health are nil where they are not set.
	Restart *services.RestartPolicy
	Health  *ServiceHealth
	// Build is the make target that builds a deployed service; "": it needs no build.
	Build string
	// Platforms are those that its programs are for, as container images name them; none: any.
	Platforms []string
	// Priority, Traits, Dependencies and Replicas are the wants of a deployed service: keys of
	// its definition where that is made of the bundle. Elsewhere they mean nothing.
	Priority     string
	Traits       []string
	Dependencies []string
	Replicas     int
	// StartTimeout and StopTimeout are 0 where they are not set.
	StartTimeout time.Duration
	StopTimeout  time.Duration
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
	if ordered != 0 && ordered != usual {
		return ordered
	}
	if own != 0 {
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

// serviceFileSettings returns the keys of a service.toml, in the order of the document.
func serviceFileSettings() []setting[*Service] {
	usual := services.Default("")
	return []setting[*Service]{
		{
			key: "version", of: func(s *Service) any { return &s.Version }, check: optionalText(versionText),
			usual: "none",
			doc:   "as `\"1.2.0\"`: for the ranges of versions of those that need it",
		},
		{
			key: "release_url", of: func(s *Service) any { return &s.ReleaseURL }, check: optionalText(releaseURL),
			doc: "release notes of this version, for Home Assistant",
		},
		{
			key: "release_summary", of: func(s *Service) any { return &s.Summary }, check: textCheck(releaseSummary),
			doc: "a short form of them, 255 bytes at most",
		},
		{
			key: "command", of: func(s *Service) any { return &s.Command },
			read:  func(t *table, key string, s *Service) { t.command(key, &s.Command) },
			usual: "make",
			doc:   "as `[\"./web\", \"-v\"]`: run directly in the directory, without make (which hides exit codes)",
		},
		{
			key: "target", of: func(s *Service) any { return &s.Target },
			doc: "for make; not with `command`",
		},
		{
			key: "port", of: func(s *Service) any { return &s.Port },
			doc: "fixed port; 0: the domain chooses one",
		},
		{
			key: "environment", of: func(s *Service) any { return &s.Environment },
			read:  func(t *table, key string, s *Service) { t.pairs(key, &s.Environment, services.CheckEnvironment) },
			usual: "`{}`",
			doc:   "as `{ COLOUR = \"blue\" }`; a variable that `dominion.toml` has too is that of `dominion.toml`",
		},
		{
			key: "variables", of: func(s *Service) any { return &s.Variables },
			read: func(t *table, key string, s *Service) { t.declared(key, &s.Variables) },
			doc:  "as `[\"COLOUR\", \"MQTT_*\"]`: what the dominion may set where `domain.toml` has `accept = \"local\"`",
		},
		{
			key: "restart", of: func(s *Service) any { return &s.Restart },
			read: func(t *table, key string, s *Service) {
				if restart := t.sub(key); t.has(key) {
					r := usual.Restart
					restart.restart(&r)
					s.Restart = &r
				}
			},
			inner: func() []row { return rowsOf(restartSettings(), &usual.Restart) },
			usual: "as in `dominion.toml`",
			doc:   "what happens when it ends",
		},
		{
			key: "health", of: func(s *Service) any { return &s.Health },
			read: func(t *table, key string, s *Service) {
				if health := t.sub(key); t.has(key) && t.valid(key) {
					s.Health = health.ownHealth()
				}
			},
			inner: func() []row {
				return append(rowsOf(healthSettings(), &defaultHealth), row{"command", "none", "as `[\"./well\"]`: this program ends with 0"})
			},
			usual: "none",
			doc:   "one of `http`, `tcp`, `command`, `mqtt` and `notify`: [health checks](#health-checks)",
		},
		{
			key: "build", of: func(s *Service) any { return &s.Build }, check: optionalText(buildTarget),
			doc: "make target that builds it on the domain, as the service's user in a copy, before it is started; of a [deployed](../how-to/deploy.md) service alone",
		},
		{
			key: "platforms", of: func(s *Service) any { return &s.Platforms }, check: eachText(platformText),
			usual: "any",
			doc:   "which machines its programs are for, as `[\"linux/arm64\", \"linux/arm/v6\"]`; for `dominionctl deploy`",
		},
		{
			key: "priority", of: func(s *Service) any { return &s.Priority }, check: optionalText(wantedPriority),
			doc: "of its definition, where `dominionctl deploy` makes it; the same for `traits`, `dependencies` and `replicas`",
		},
		{
			key: "traits", of: func(s *Service) any { return &s.Traits }, check: eachText(nameOf("trait")),
			doc: "all of them must be offered by the domain",
		},
		{
			key: "dependencies", of: func(s *Service) any { return &s.Dependencies }, check: eachText(dependencyText),
			doc: "`\"web\"` or `\"web >=1.2\"`: started and healthy first",
		},
		{
			key: "replicas", of: func(s *Service) any { return &s.Replicas },
			usual: "`1`, with neither `priority` nor `domains`",
			doc:   "on this many domains",
		},
		{
			key: "start_timeout", of: func(s *Service) any { return &s.StartTimeout },
			usual: asInFile(usual.StartTimeout),
			doc:   "from its start until its health check says yes",
		},
		{
			key: "stop_timeout", of: func(s *Service) any { return &s.StopTimeout },
			usual: asInFile(usual.StopTimeout),
			doc:   "from SIGTERM to SIGKILL",
		},
	}
}

func buildTarget(s string) problem {
	if topics.ValidTarget(s) {
		return problem{}
	}
	return problem{quote(s) + " is not a valid make target", "use letters, digits, _ . and -, a letter or digit first"}
}

func platformText(s string) problem {
	if topics.ValidPlatform(s) {
		return problem{}
	}
	return problem{quote(s) + " is not a platform", `write it as "linux/arm64" or "linux/arm/v6"`}
}

func wantedPriority(s string) problem {
	if s == string(services.Required) || s == string(services.OnDemand) {
		return problem{}
	}
	return problem{quote(s) + " is not a valid priority", `use "required" or "dependency"`}
}

func dependencyText(s string) problem {
	if _, err := services.ParseDependency(s); err != nil {
		return problem{quote(s) + " is no dependency", `write "web" or "web >=1.2"`}
	}
	return problem{}
}

func versionText(s string) problem {
	if services.ValidVersion(s) {
		return problem{}
	}
	return problem{quote(s) + " is no version", `write it as "1.2.0"`}
}

func releaseURL(s string) problem {
	if topics.ValidURL(s) {
		return problem{}
	}
	return problem{
		quote(s) + " is no http or https URL of letters, digits and -._~:/?#[]@+,=%",
		`write it as "https://example.com/web/1.2.0"`,
	}
}

func releaseSummary(s string) problem {
	const most = 255 // bytes of release notes that Home Assistant shows
	if len(s) > most {
		return problem{fmt.Sprintf("%d bytes are more than %d", len(s), most), "put the rest where release_url is"}
	}
	return problem{}
}

// ownService reads a service.toml. What is judged is the service that it makes of the
// defaults.
func (t *table) ownService(s *Service) {
	defer t.close()
	readElement(t, serviceFileSettings(), s)
	if t.valid("target") && s.Target != "" && t.set("command") {
		t.fault("target", "take one of them out", "is for make, which command does without")
	}
	d := services.Default("service")
	d.Target, d.Port = s.Target, s.Port
	if s.Restart != nil {
		d.Restart = *s.Restart
	}
	if t.set("start_timeout") && t.valid("start_timeout") {
		d.StartTimeout = s.StartTimeout
	}
	if t.set("stop_timeout") && t.valid("stop_timeout") {
		d.StopTimeout = s.StopTimeout
	}
	kinds := 1
	if s.Health != nil {
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
