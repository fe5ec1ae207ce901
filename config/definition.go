package config

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

const rangeHint = `comparisons beside each other must all hold: put || between those of which one is enough`

// services reads every [services.NAME] and judges them together, and with others of which
// none has the name of one of them. Their number is judged before anything else of them is
// read.
func (t *table) services(prefix string, others ...services.Definition) []services.Definition {
	if len(t.values) > services.MaxServices {
		t.fault("", "take some out", "%d services are more than %d", len(t.values), services.MaxServices)
		t.values = nil
		return nil
	}
	names := slices.Collect(maps.Keys(t.values))
	// SERVICES_WEB_ENVIRONMENT_PORT is the port of web-environment, where that
	// is defined, before it is a variable PORT of web: longer names first.
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	in := make(map[string]*table, len(names))
	var defs []services.Definition
	settings := serviceSettings()
	for _, name := range names {
		in[name] = t.sub(name)
		defs = append(defs, in[name].service(name, settings))
	}
	slices.SortFunc(defs, func(a, b services.Definition) int { return cmp.Compare(a.Name, b.Name) })
	others = slices.DeleteFunc(slices.Clone(others), func(d services.Definition) bool { return in[d.Name] != nil })
	faults := slices.DeleteFunc(services.Validate(slices.Concat(defs, others)), func(f services.Fault) bool {
		if in[f.Service] == nil {
			return false
		}
		at, key := in[f.Service].tableOf(f.Key)
		return !at.valid(key) // it was not read: what is judged is a default
	})
	for _, f := range faults {
		at, key := t, ""
		if in[f.Service] != nil {
			at, key = in[f.Service].tableOf(f.Key)
		} else {
			f.Message = f.Service + ": " + f.Message
		}
		at.fault(key, f.Hint, "%s", f.Message)
	}
	for _, d := range defs {
		if d.Scale == nil {
			continue
		}
		if a, ours := topics.NewTree(prefix).Parse(d.Scale.Topic()); ours && a.Kind.Imperative() {
			at, key := in[d.Name].tableOf("scale.metric")
			at.fault(key, "follow a topic that says something", "%s takes orders, it holds no figure", d.Scale.Topic())
		}
	}
	return defs
}

// service reads one [services.NAME]. What the keys mean together is judged by
// services.Validate, when all are read.
func (t *table) service(name string, settings []setting[*services.Definition]) services.Definition {
	defer t.close()
	d := services.Default(name)
	for _, k := range settings {
		k.value(t, &d)
	}
	if !t.set("priority") && (d.Replicas > 0 || d.Scale != nil) {
		d.Priority = services.Required // a number of copies is wanted
	}
	return d
}

// serviceSettings returns the keys of [services.NAME], in the order of the document.
// The defaults are those of services.Default.
func serviceSettings() []setting[*services.Definition] {
	all := []setting[*services.Definition]{
		{
			key: "priority", of: func(d *services.Definition) any { return (*string)(&d.Priority) },
			usual: "`\"dependency\"`; with `replicas` or `scale`: `\"required\"`",
			doc:   "runs while something needs it; `\"required\"`: always, on every domain with its traits, or on as many as `replicas` or `scale` says",
		},
		{
			key: "dependencies", of: func(d *services.Definition) any { return &d.Dependencies },
			read:  func(t *table, _ string, d *services.Definition) { t.dependencies(&d.Dependencies) },
			usual: "`[]`",
			doc:   "`\"web\"` or `\"web >=1.2\"`: started and healthy first",
		},
		{
			key: "traits", of: func(d *services.Definition) any { return &d.Traits },
			doc: "all of them must be offered by the domain",
		},
		{
			key: "version", of: func(d *services.Definition) any { return &d.Version }, read: readRange,
			usual: "any",
			doc:   "`\">=1.0.0 <2.0.0\"`, of the service on the domain's disk",
		},
		{
			key: "replicas", of: func(d *services.Definition) any { return &d.Replicas },
			doc: "on this many domains; 0: as the priority says. `replicas = 1` alone: one instance somewhere, and elsewhere when that machine dies",
		},
		{
			key: "scale", of: func(d *services.Definition) any { return &d.Scale },
			inner: func() []row { return rowsOf(scaleSettings(), &defaultScale) },
			read: func(t *table, key string, d *services.Definition) {
				if scale := t.sub(key); t.has(key) {
					d.Scale = scale.scale()
				}
			},
			usual: "none",
			doc:   "a number that [follows a figure](../how-to/autoscale.md)",
		},
		{
			key: "domains", of: func(d *services.Definition) any { return &d.Domains },
			doc: "only on these",
		},
		{
			key: "needs", of: func(d *services.Definition) any { return &d.Needs },
			inner: func() []row { return rowsOf(needsSettings(), &services.Needs{}) },
			read:  func(t *table, key string, d *services.Definition) { t.sub(key).needs(&d.Needs) },
			usual: "none",
			doc:   "`{ cpu = 0.5, memory = \"256MB\" }`, of one instance: [where it runs](../explanation/placement.md)",
		},
		{
			key: "oneshot", of: func(d *services.Definition) any { return &d.Oneshot }, inStartCommand: true,
			read: func(t *table, key string, d *services.Definition) {
				if t.flag(key, &d.Oneshot); d.Oneshot {
					d.Restart.Policy = topics.RestartOnFailure // unless restart says otherwise: again until it ends well
				}
			},
			doc: "[done once](../how-to/write-a-service.md#do-something-once): what depends on it waits until it has ended with exit code 0. The policy is `\"on-failure\"` then, by default",
		},
		{
			key: "exclusive", of: func(d *services.Definition) any { return &d.Exclusive }, inStartCommand: true,
			doc: "[never two at once](../explanation/exclusive.md)",
		},
		{
			key: "target", of: func(d *services.Definition) any { return &d.Target }, inStartCommand: true,
			doc: "make target; the Makefile's first",
		},
		{
			key: "port", of: func(d *services.Definition) any { return &d.Port }, inStartCommand: true,
			doc: "fixed port; 0: the domain chooses one from 20000 to 29999",
		},
		{ // before environment, which would take …_ENVIRONMENT_FILE for a variable FILE
			key: "environment_file", of: func(d *services.Definition) any { return &d.EnvironmentFile }, inStartCommand: true,
			doc: "file on the domain with `KEY=VALUE` lines: a regular file, no link, that the user of the service can read",
		},
		{
			key: "environment", of: func(d *services.Definition) any { return &d.Environment }, inStartCommand: true,
			read: func(t *table, key string, d *services.Definition) {
				t.pairs(key, &d.Environment, services.CheckVariable)
			},
			usual: "`{}`",
			doc:   "added to the process's, byte for byte; `\"secret:NAME\"` stands for [a secret](../how-to/secrets.md); [except names of make's own](service.md#the-environment-of-a-service)",
		},
		{ // after oneshot, which has another default of the policy
			key: "restart", of: func(d *services.Definition) any { return &d.Restart }, inStartCommand: true,
			inner: func() []row {
				usual := services.Default("").Restart
				return rowsOf(restartSettings(), &usual)
			},
			read:  func(t *table, key string, d *services.Definition) { t.sub(key).restart(&d.Restart) },
			usual: "`{ policy = \"always\", delay = \"1s\", max_delay = \"1m\" }`",
			doc:   "or `on-failure`, `never`",
		},
		{
			key: "health", of: func(d *services.Definition) any { return &d.Health }, inStartCommand: true,
			inner: func() []row { return rowsOf(healthSettings(), &defaultHealth) },
			read: func(t *table, key string, d *services.Definition) {
				if health := t.sub(key); t.has(key) {
					d.Health = health.health()
				}
			},
			usual: "none",
			doc:   "`{ http = \"/health\" }`, `{ tcp = true }`, `{ mqtt = \"topic\", payload = \"online\" }` or `{ notify = true, watchdog = \"30s\" }`: [health checks](service.md#health-checks)",
		},
		{
			key: "start_timeout", of: func(d *services.Definition) any { return &d.StartTimeout }, inStartCommand: true,
			doc: "from its start until its health check says yes, else it counts as failed and is tried again: more for one that compiles first",
		},
		{
			key: "stop_timeout", of: func(d *services.Definition) any { return &d.StopTimeout }, inStartCommand: true,
			doc: "from SIGTERM to SIGKILL",
		},
		{
			key: "bundle", of: func(d *services.Definition) any { return &d.Bundle }, inStartCommand: true,
			read:  func(t *table, key string, d *services.Definition) { t.bundle(key, d) },
			usual: "none",
			doc:   "a version in the hub's registry: the program travels to the domains. Only in a definition at run time, as `dominionctl deploy` makes it",
		},
		{
			key: "update", of: func(d *services.Definition) any { return &d.Update },
			doc: "[a new version](../how-to/change-a-service.md) is rolled out by itself; `\"manual\"`: by `dominionctl update`",
		},
	}
	for i := range all {
		all[i].effect = byReload
	}
	return all
}

// bundle reads a version in the hub's registry.
func (t *table) bundle(key string, d *services.Definition) {
	var version string
	if !t.text(key, &version) || !t.set(key) {
		return
	}
	if !t.l.atRunTime {
		t.fault(key, "take it out here, and define the service with `dominionctl deploy` or `dominionctl apply`", "is only for definitions at run time")
		return
	}
	if !topics.ValidVersion(version) {
		t.fault(key, `write it as "1.2.0"`, "%s is no version", quote(version))
		return
	}
	d.Bundle = &topics.Bundle{Version: version}
}

// readRange reads a range of versions.
func readRange(t *table, key string, d *services.Definition) {
	var version string
	if !t.text(key, &version) {
		return
	}
	r, err := services.ParseRange(version)
	if errors.Is(err, services.ErrNoVersion) {
		t.fault(key, rangeHint, "no version is in the range %s", quote(version))
	} else if err != nil {
		t.fault(key, `write comparisons, as ">=1.2 <2"`, "%s is no range of versions", quote(version))
	}
	d.Version = r
}

func needsSettings() []setting[*services.Needs] {
	return []setting[*services.Needs]{
		{
			key: "cpu", of: func(n *services.Needs) any { return &n.CPU },
			usual: "unknown",
			doc:   "cores that an instance is expected to use, as `0.5`",
		},
		{
			key: "memory", of: func(n *services.Needs) any { return &n.Memory },
			usual: "unknown",
			doc:   "the memory, as `\"256MB\"`",
		},
	}
}

// needs reads what an instance is expected to use.
func (t *table) needs(n *services.Needs) {
	defer t.close()
	readElement(t, needsSettings(), n)
}

var defaultScale = services.Scale{Min: 1, Cooldown: services.DefaultScaleCooldown}

// scaleSettings returns the keys of scale of a service, in the order in which they are
// read: some take their default or their range from those before them.
func scaleSettings() []setting[*services.Scale] {
	return []setting[*services.Scale]{
		{
			key: "min", of: func(s *services.Scale) any { return &s.Min },
			doc: "instances at least",
		},
		{
			key: "max", of: func(s *services.Scale) any { return &s.Max },
			usual: "required",
			doc:   "instances at most",
		},
		{
			key: "metric", of: func(s *services.Scale) any { return &s.Metric },
			usual: "required",
			doc:   "`\"cpu\"`, `\"memory\"` or `\"mqtt:<topic>\"`",
		},
		{
			key: "field", of: func(s *services.Scale) any { return &s.Field },
			doc: "of a JSON payload at that topic, by path, as `\"queue.length\"`; without it the payload is the number",
		},
		{ // after metric, which says what it counts
			key: "target", of: func(s *services.Scale) any { return &s.Target },
			read: func(t *table, key string, s *services.Scale) {
				if s.Metric != services.ScaleByMemory {
					t.decimal(key, &s.Target)
					return
				}
				var bytes int64
				t.size(key, &bytes)
				s.Target = float64(bytes)
			},
			usual: "required",
			doc:   "of the figure for one instance: cores, a size, or what the topic counts",
		},
		{
			key: "cooldown", of: func(s *services.Scale) any { return &s.Cooldown },
			doc: "between two changes of the number",
		},
		{ // after metric and cooldown, which its default depends on
			key: "max_age", of: func(s *services.Scale) any { return &s.MaxAge },
			read: func(t *table, key string, s *services.Scale) {
				if s.Topic() != "" {
					s.MaxAge = max(services.DefaultScaleMaxAge, 3*s.Cooldown)
				}
				t.duration(key, &s.MaxAge)
			},
			usual: "`\"1h\"`, or three cooldowns",
			doc:   "of the topic's figure; an older one does not count",
		},
	}
}

// scale reads how a number of instances follows a figure.
func (t *table) scale() *services.Scale {
	defer t.close()
	s := defaultScale
	readElement(t, scaleSettings(), &s)
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

// restartSettings returns the keys of restart of a service.
func restartSettings() []setting[*services.RestartPolicy] {
	return []setting[*services.RestartPolicy]{
		{
			key: "policy", of: func(r *services.RestartPolicy) any { return &r.Policy },
			usual: "`\"always\"`; with `oneshot`: `\"on-failure\"`",
			doc:   "or `\"never\"`",
		},
		{
			key: "delay", of: func(r *services.RestartPolicy) any { return &r.Delay },
			doc: "until the first restart; it doubles",
		},
		{
			key: "max_delay", of: func(r *services.RestartPolicy) any { return &r.MaxDelay },
			read: func(t *table, key string, r *services.RestartPolicy) {
				// A longer delay than the default of max_delay raises it.
				r.MaxDelay = max(r.MaxDelay, r.Delay)
				t.duration(key, &r.MaxDelay)
			},
			doc: "at most; not below `delay`",
		},
	}
}

func (t *table) restart(r *services.RestartPolicy) {
	defer t.close()
	readElement(t, restartSettings(), r)
}

// health reads the health check of a start command.
func (t *table) health() *services.Health {
	defer t.close()
	var h services.Health
	t.check(&h)
	if _, ok := t.values["command"]; ok {
		t.requested["command"] = true
		t.fault("command", "write it into the service.toml beside the service", "commands come only from the domain's own disk")
		h.TCP = h.TCP || h.HTTP == "" && !h.Notify
	}
	return &h
}

var defaultHealth = services.Health{
	Interval: services.DefaultHealthInterval, Timeout: services.DefaultHealthTimeout, Failures: services.DefaultHealthFailures,
}

// healthSettings returns the keys of health of a service, in the order in which they are
// read: some take their default from those before them.
func healthSettings() []setting[*services.Health] {
	return []setting[*services.Health]{
		{
			key: "http", of: func(h *services.Health) any { return &h.HTTP },
			doc: "path to GET on its port: 2xx and 3xx are healthy",
		},
		{
			key: "tcp", of: func(h *services.Health) any { return &h.TCP },
			doc: "its port accepts a connection",
		},
		{
			key: "notify", of: func(h *services.Health) any { return &h.Notify },
			doc: "it sends `READY=1` to `NOTIFY_SOCKET`",
		},
		{
			key: "mqtt", of: func(h *services.Health) any { return &h.MQTT },
			doc: "a topic that says how it is; `<domain>` in it is the domain's name",
		},
		{ // after mqtt, which it has a default with
			key: "payload", of: func(h *services.Health) any { return &h.Payload },
			read: func(t *table, key string, h *services.Health) {
				if h.MQTT != "" {
					h.Payload = services.DefaultHealthPayload
				}
				t.text(key, &h.Payload)
			},
			usual: "`\"online\"`",
			doc:   "`mqtt`: what the topic says when it is well",
		},
		{
			key: "watchdog", of: func(h *services.Health) any { return &h.Watchdog },
			usual: "none",
			doc:   "`notify`: it sends `WATCHDOG=1` more often than this",
		},
		{
			key: "interval", of: func(h *services.Health) any { return &h.Interval },
			doc: "between checks by `http` and `tcp`",
		},
		{
			key: "timeout", of: func(h *services.Health) any { return &h.Timeout },
			doc: "of one check",
		},
		{
			key: "failures", of: func(h *services.Health) any { return &h.Failures },
			doc: "failed checks in a row that make it unhealthy",
		},
	}
}

// check reads the keys that every health check has. After a fault in what kind
// of check it is, some kind is set: the fault is not to be followed by one
// about its absence.
func (t *table) check(h *services.Health) {
	*h = defaultHealth
	readElement(t, healthSettings(), h)
	kinds := t.valid("http") && t.valid("tcp") && t.valid("notify") && t.valid("mqtt")
	if !kinds && h.HTTP == "" && !h.TCP && !h.Notify && h.MQTT == "" {
		h.TCP = true
	}
}

// tableOf returns the table that holds a key which is given by its path, as
// "scale.max", and the key's name in it.
func (t *table) tableOf(key string) (*table, string) {
	for {
		name, rest, more := strings.Cut(key, ".")
		if !more {
			return t, key
		}
		t, key = &table{l: t.l, up: t, path: t.keyPath(name), variable: t.variableName(name)}, rest
	}
}
