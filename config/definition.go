package config

import (
	"errors"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

const rangeHint = `comparisons beside each other must all hold: put || between those of which one is enough`

// service reads one [services.NAME]. What the keys mean together is judged by
// services.Validate, when all are read.
func (t *table) service(name string) services.Definition {
	defer t.close()
	d := services.Default(name)
	t.text("priority", (*string)(&d.Priority))
	t.dependencies(&d.Dependencies)
	t.list("traits", &d.Traits)
	var version string
	if t.text("version", &version) {
		r, err := services.ParseRange(version)
		switch {
		case errors.Is(err, services.ErrNoVersion):
			t.fault("version", rangeHint, "no version is in the range %s", quote(version))
		case err != nil:
			t.fault("version", `write comparisons, as ">=1.2 <2"`, "%s is no range of versions", quote(version))
		}
		d.Version = r
	}
	t.number("replicas", &d.Replicas)
	t.list("domains", &d.Domains)
	t.text("target", &d.Target)
	t.number("port", &d.Port)
	t.text("environment_file", &d.EnvironmentFile) // before environment, which would take …_ENVIRONMENT_FILE for a FILE
	t.pairs("environment", &d.Environment, services.CheckEnvironment)
	if t.flag("oneshot", &d.Oneshot); d.Oneshot {
		d.Restart.Policy = topics.RestartOnFailure // unless said: again until it ends well
	}
	t.sub("restart").restart(&d.Restart)
	if health := t.sub("health"); t.has("health") {
		d.Health = health.health()
	}
	t.duration("start_timeout", &d.StartTimeout)
	t.duration("stop_timeout", &d.StopTimeout)
	t.flag("exclusive", &d.Exclusive)
	t.sub("needs").needs(&d.Needs)
	if scale := t.sub("scale"); t.has("scale") {
		d.Scale = scale.scale()
	}
	t.text("update", &d.Update)
	if !t.set("priority") && (d.Replicas > 0 || d.Scale != nil) {
		d.Priority = services.Required // a number of copies is wanted
	}
	return d
}

// needs reads what an instance is expected to use.
func (t *table) needs(n *services.Needs) {
	defer t.close()
	t.decimal("cpu", &n.CPU)
	t.size("memory", &n.Memory)
}

// scale reads how a number of instances follows a figure.
func (t *table) scale() *services.Scale {
	defer t.close()
	s := services.Scale{Min: 1, Cooldown: services.DefaultScaleCooldown}
	t.number("min", &s.Min)
	t.number("max", &s.Max)
	t.text("metric", &s.Metric)
	t.text("field", &s.Field)
	if s.Metric == services.ScaleByMemory {
		var bytes int64
		t.size("target", &bytes)
		s.Target = float64(bytes)
	} else {
		t.decimal("target", &s.Target)
	}
	t.duration("cooldown", &s.Cooldown)
	if topic := s.Topic(); topic != "" {
		s.MaxAge = max(services.DefaultScaleMaxAge, 3*s.Cooldown)
	}
	t.duration("max_age", &s.MaxAge)
	return &s
}

func (t *table) dependencies(to *[]services.Dependency) {
	var all []string
	t.list("dependencies", &all)
	for _, s := range all {
		d, err := services.ParseDependency(s)
		if errors.Is(err, services.ErrNoVersion) {
			t.report("dependencies", rangeHint, "%s: no version is in the range", quote(s))
			continue
		}
		if err != nil {
			t.report("dependencies", `write "web" or "web >=1.2"`, "%s is no dependency", quote(s))
			continue
		}
		*to = append(*to, d)
	}
}

func (t *table) restart(r *services.RestartPolicy) {
	defer t.close()
	t.text("policy", &r.Policy)
	t.duration("delay", &r.Delay)
	// A longer delay than the default of max_delay means it, without more words.
	if r.Delay > r.MaxDelay {
		r.MaxDelay = r.Delay
	}
	t.duration("max_delay", &r.MaxDelay)
}

// health reads the health check of a start command.
func (t *table) health() *services.Health {
	defer t.close()
	var h services.Health
	t.check(&h)
	if _, ok := t.values["command"]; ok {
		t.seen["command"] = true
		t.fault("command", "write it into the service.toml beside the service", "commands come only from the domain's own disk")
		h.TCP = h.TCP || h.HTTP == "" && !h.Notify
	}
	return &h
}

// check reads the keys that every health check has. After a fault in what kind
// of check it is, some kind is set: the fault is not to be followed by one
// about its absence.
func (t *table) check(h *services.Health) {
	h.Interval, h.Timeout, h.Failures = services.DefaultHealthInterval, services.DefaultHealthTimeout, services.DefaultHealthFailures
	t.text("http", &h.HTTP)
	t.flag("tcp", &h.TCP)
	t.flag("notify", &h.Notify)
	t.duration("interval", &h.Interval)
	t.duration("timeout", &h.Timeout)
	t.number("failures", &h.Failures)
	t.text("mqtt", &h.MQTT)
	if h.MQTT != "" {
		h.Payload = services.DefaultHealthPayload
	}
	t.text("payload", &h.Payload)
	t.duration("watchdog", &h.Watchdog)
	kinds := t.fine("http") && t.fine("tcp") && t.fine("notify") && t.fine("mqtt")
	if !kinds && h.HTTP == "" && !h.TCP && !h.Notify && h.MQTT == "" {
		h.TCP = true
	}
}

// holder returns the table that holds a key which is given by its path, as
// "scale.max", and the key's name in it.
func (t *table) holder(key string) (*table, string) {
	for {
		name, rest, more := strings.Cut(key, ".")
		if !more {
			return t, key
		}
		t, key = &table{l: t.l, up: t, path: t.keyPath(name), variable: t.variableName(name)}, rest
	}
}
