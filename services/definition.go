// Package services defines what a service is: its definition, versions,
// validation and start order. It does no I/O and reads no clock; config fills
// it, hub and planner read it. With topics it is the ground that every other
// package may import.
package services

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Priority is when a service is wanted.
type Priority string

// The priorities.
const (
	Required Priority = "required"   // on every domain that has its traits
	OnDemand Priority = "dependency" // only while something that runs needs it
)

// Definition is one [services.NAME] of dominion.toml.
type Definition struct {
	Name         string
	Priority     Priority
	Dependencies []Dependency
	// Traits must all be offered by the domain.
	Traits []string
	// Version is of the domain's catalog.
	Version Range
	// Replicas is the number of instances; 0: by the priority.
	Replicas int
	// Domains are those that it is pinned to; none: it may run on any.
	Domains []string
	// Target is the make target; empty: the Makefile's first.
	Target string
	// Port is fixed; 0: the agent chooses one.
	Port int
	// Environment is added to the process's. "secret:NAME" stands for a secret.
	Environment map[string]string
	// EnvironmentFile is a file on the domain.
	EnvironmentFile string
	Restart         RestartPolicy
	// Oneshot: it is done when it has ended with success, and what depends on it waits
	// for that.
	Oneshot bool
	// Health is the check; nil: it is ready after it ran for 1 s.
	Health       *Health
	StartTimeout time.Duration
	StopTimeout  time.Duration
	// Exclusive: never two at once; it runs under a lease.
	Exclusive bool
	// Needs is what an instance is expected to use.
	Needs Needs
	// Scale is nil where the number of instances does not follow a figure.
	Scale *Scale
	// Update is UpdateAuto or UpdateManual.
	Update string
	// Bundle is its program in the hub's registry; nil: it is on the disks of the domains. Only
	// Version is set until the hub has found it there. It is never changed.
	Bundle *topics.Bundle
}

// Needs is what one instance of a service is expected to use. Zero: unknown.
type Needs struct {
	CPU    float64 // cores
	Memory int64   // bytes
}

// Scale lets the number of instances follow a figure.
type Scale struct {
	Min, Max int
	Metric   string        // ScaleByCPU, ScaleByMemory, or ScaleByMQTT and a topic
	Field    string        // of a JSON payload of that topic, by path: "queue.length"; empty: the payload is the number
	Target   float64       // of the figure for one instance: cores, bytes, or what the topic counts
	Cooldown time.Duration // between two changes of the number
	MaxAge   time.Duration // of the last payload of the topic: an older one is not used; 0: it is used at any age
}

// The metrics of a Scale.
const (
	ScaleByCPU    = "cpu"
	ScaleByMemory = "memory"
	ScaleByMQTT   = "mqtt:" // and the topic
)

// When a new version in a domain's catalog is rolled out.
const (
	UpdateAuto   = "auto"   // as soon as the catalog holds it
	UpdateManual = "manual" // when a user orders it
)

// Dependency is a service that another one needs, in a version range.
type Dependency struct {
	Service string
	Version Range
}

// RestartPolicy is what happens when a service ends.
type RestartPolicy struct {
	Policy          string // topics.RestartAlways and its like
	Delay, MaxDelay time.Duration
}

// Health is how a service is checked for being healthy. Exactly one of HTTP, TCP,
// MQTT and Notify is set.
type Health struct {
	HTTP              string // path to GET on its port
	TCP               bool
	MQTT              string // a topic; "<domain>" in it stands for the domain's name
	Payload           string // of that topic when it is healthy
	Notify            bool
	Watchdog          time.Duration // with Notify: it sends WATCHDOG=1 more often than this; 0: it need not
	Interval, Timeout time.Duration
	Failures          int
}

// The defaults of a definition.
const (
	DefaultRestartDelay    = time.Second
	DefaultRestartMaxDelay = time.Minute
	DefaultStartTimeout    = 2 * time.Minute
	DefaultStopTimeout     = 10 * time.Second
	DefaultHealthInterval  = 5 * time.Second
	DefaultHealthTimeout   = time.Second
	DefaultHealthFailures  = 3
	DefaultHealthPayload   = topics.Online
	DefaultScaleCooldown   = time.Minute
	DefaultScaleMaxAge     = time.Hour // at least three cooldowns
)

// StopTimeout returns the time between the request to stop and the kill of a service.
// A specification of an older hub may have none.
func StopTimeout(s topics.Spec) time.Duration {
	if s.StopTimeout > 0 {
		return s.StopTimeout.Duration()
	}
	return DefaultStopTimeout
}

// Default returns a definition of a name with every default filled in.
func Default(name string) Definition {
	return Definition{
		Name:         name,
		Priority:     OnDemand,
		Restart:      RestartPolicy{Policy: topics.RestartAlways, Delay: DefaultRestartDelay, MaxDelay: DefaultRestartMaxDelay},
		StartTimeout: DefaultStartTimeout,
		StopTimeout:  DefaultStopTimeout,
		Update:       UpdateAuto,
	}
}

// DependsOn reports whether d depends on service directly.
func (d Definition) DependsOn(service string) bool {
	return slices.ContainsFunc(d.Dependencies, func(dep Dependency) bool { return dep.Service == service })
}

// Equal reports whether two definitions are equal.
func (d Definition) Equal(other Definition) bool {
	a, b := d, other
	same := slices.EqualFunc(a.Dependencies, b.Dependencies, func(x, y Dependency) bool {
		return x.Service == y.Service && x.Version.String() == y.Version.String()
	})
	same = same && a.Version.String() == b.Version.String() &&
		slices.Equal(a.Traits, b.Traits) && slices.Equal(a.Domains, b.Domains) && maps.Equal(a.Environment, b.Environment)
	// What a range is made of cannot be compared, and what is empty may be nil.
	a.Dependencies, a.Version, a.Traits, a.Domains, a.Environment = nil, Range{}, nil, nil, nil
	b.Dependencies, b.Version, b.Traits, b.Domains, b.Environment = nil, Range{}, nil, nil, nil
	return same && reflect.DeepEqual(a, b)
}

// Spec returns the definition as a start command carries it. addresses holds
// address:port of the dependencies that are known.
func (d Definition) Spec(addresses map[string]string) topics.Spec {
	s := topics.Spec{
		Target:          d.Target,
		Port:            d.Port,
		Environment:     d.Environment,
		EnvironmentFile: d.EnvironmentFile,
		Restart: topics.RestartPolicy{
			Policy:   d.Restart.Policy,
			Delay:    topics.Seconds(d.Restart.Delay),
			MaxDelay: topics.Seconds(d.Restart.MaxDelay),
		},
		StartTimeout: topics.Seconds(d.StartTimeout),
		StopTimeout:  topics.Seconds(d.StopTimeout),
		Exclusive:    d.Exclusive,
		Oneshot:      d.Oneshot,
		Bundle:       d.Bundle,
	}
	s.Health = new(topics.HealthCheck) // no check is written as {}
	if h := d.Health; h != nil {
		s.Health = &topics.HealthCheck{
			HTTP: h.HTTP, TCP: h.TCP, MQTT: h.MQTT, Payload: h.Payload, Notify: h.Notify, Watchdog: topics.Seconds(h.Watchdog),
			Interval: topics.Seconds(h.Interval), Timeout: topics.Seconds(h.Timeout), Failures: h.Failures,
		}
	}
	s.Revision = revision(s)
	if len(addresses) > 0 {
		s.Dependencies = addresses
	}
	return s
}

// revision is a hash of what a running instance cannot take over without a restart: its command, port and environment. Timeouts, restart policy and
// health check are applied by the agent at once, so they are left out; whether
// it notifies changes its environment.
func revision(s topics.Spec) string {
	if len(s.Environment) == 0 {
		s.Environment = nil // an empty table and none are the same
	}
	parts := []any{s.Target, s.Port, s.Environment, s.EnvironmentFile, s.Health.Notify}
	if s.Exclusive { // with a guard, and DOMINION_FENCE; only then, so that other revisions stay what they were
		parts = append(parts, "exclusive")
	}
	if s.Health.Watchdog > 0 { // WATCHDOG_USEC
		parts = append(parts, s.Health.Watchdog)
	}
	if s.Bundle != nil { // its digest alone: a version never names another one
		parts = append(parts, "bundle", s.Bundle.Digest)
	}
	b, err := json.Marshal(parts)
	if err != nil {
		panic("services: strings and numbers cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// ReviseForSecrets returns the revision of a spec whose environment has secrets: another
// value of one needs a restart, too. revisions stand for their values, by name.
func ReviseForSecrets(revision string, revisions map[string]string) string {
	if len(revisions) == 0 {
		return revision
	}
	b, err := json.Marshal([]any{revision, revisions})
	if err != nil {
		panic("services: strings cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}
