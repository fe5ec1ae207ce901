// Package services says what a service is: its definition, versions,
// validation and start order. It does no I/O and reads no clock; config fills
// it, hub and planner read it. With topics it is the ground that every other
// package may import.
package services

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// Priority says when a service is wanted.
type Priority string

// The priorities.
const (
	Required Priority = "required"   // on every domain that has its traits
	OnDemand Priority = "dependency" // only while something that runs needs it
)

// Definition is one [services.NAME] of dominion.toml.
type Definition struct {
	Name            string
	Priority        Priority
	Dependencies    []Dependency
	Traits          []string // all of them must be offered by the domain
	Version         Range    // of the domain's catalog
	Replicas        int      // 0: as the priority says
	Domains         []string // pinned to these; none: anywhere
	Target          string   // make target; empty: the Makefile's first
	Port            int      // 0: the agent chooses one
	Environment     map[string]string
	EnvironmentFile string // on the domain
	Restart         RestartPolicy
	Health          *Health // nil: ready after it ran for 1 s
	StartTimeout    time.Duration
	StopTimeout     time.Duration
}

// Dependency is a service that another one needs, in a version range.
type Dependency struct {
	Service string
	Version Range
}

// RestartPolicy says what happens when a service ends.
type RestartPolicy struct {
	Policy          string // topics.RestartAlways and its like
	Delay, MaxDelay time.Duration
}

// Health says how to tell that a service is well. Exactly one of HTTP, TCP
// and Notify is set.
type Health struct {
	HTTP              string // path to GET on its port
	TCP               bool
	Notify            bool
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
)

// Default returns a definition of a name with every default filled in.
func Default(name string) Definition {
	return Definition{
		Name:         name,
		Priority:     OnDemand,
		Restart:      RestartPolicy{Policy: topics.RestartAlways, Delay: DefaultRestartDelay, MaxDelay: DefaultRestartMaxDelay},
		StartTimeout: DefaultStartTimeout,
		StopTimeout:  DefaultStopTimeout,
	}
}

// Needs tells whether d depends on service directly.
func (d Definition) Needs(service string) bool {
	return slices.ContainsFunc(d.Dependencies, func(dep Dependency) bool { return dep.Service == service })
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
	}
	s.Health = new(topics.HealthCheck) // no check is written as {}
	if h := d.Health; h != nil {
		s.Health = &topics.HealthCheck{
			HTTP: h.HTTP, TCP: h.TCP, Notify: h.Notify,
			Interval: topics.Seconds(h.Interval), Timeout: topics.Seconds(h.Timeout), Failures: h.Failures,
		}
	}
	s.Revision = revision(s)
	if len(addresses) > 0 {
		s.Dependencies = addresses
	}
	return s
}

// revision digests what a running instance cannot take over without a
// restart: its command, port and environment. Timeouts, restart policy and
// health check are obeyed by the agent at once, so they are left out; whether
// it notifies changes its environment.
func revision(s topics.Spec) string {
	if len(s.Environment) == 0 {
		s.Environment = nil // an empty table and none are the same
	}
	b, err := json.Marshal([]any{s.Target, s.Port, s.Environment, s.EnvironmentFile, s.Health.Notify})
	if err != nil {
		panic("services: strings and numbers cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}
