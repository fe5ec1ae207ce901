package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// What docs/protocol.md says of each payload, written down a second time: a
// change of topics/ that breaks what others have built must be seen.
const (
	states   = "pending|fetching|starting|running|stopping|stopped|backoff|failed|finished"
	healths  = "unknown|healthy|unhealthy"
	hubShape = shape(`
		id uuid
		name word
		version word
		protocol word
		epoch count
		run word
		key word
		signature word
		started_at time
		ready bool
		domains object
		domains.online count
		domains.offline count
		domains.lonely count
		services object
		services.wanted count
		services.running count
		registry? list
		control? string
		problem? string
		certificate_expires? time
	`)
	adoptionShape = shape(`
		window object
		window.open bool
		window.until? time
		window.left? count
		waiting list
	`)
	conditionShape = shape(`
		domain word
		state online|offline|lost
		since? time
		problem bool
		reason string
	`)
	heartbeatShape = shape(`
		id uuid
		session word
		seq count
		at time
		uptime number
		epoch count
		generation count
		run? word
		lease? number
		status? count
		mac word
	`)
	metricsShape = shape(`
		at time
		seq count
		mac word
		load1 number
		memory_used count
		memory_total count
		cores count
		disk_free count
		temperature? number
		services object
		services.* object
		services.*.cpu number
		services.*.memory count
	`)
	domainShape = shape(`
		id uuid
		name word
		version word
		protocol word
		os word
		arch word
		platform word
		accept word
		signature word
		address word
		addresses list
		traits list
		session? word
		seq? count
		epoch? count
		generation? count
		run? word
		started_at time
		draining bool
		services list
		services[].service word
		services[].state ` + states + `
		services[].health ` + healths + `
		services[].version string
		services[].revision word
		services[].address? word
		services[].port? count
		services[].pid? count
		services[].restarts count
		services[].since time
		services[].exit_code? number
		services[].message? string
		services[].next_try? time
		catalog list
		catalog[].service word
		catalog[].version string
		catalog[].release_url? word
		catalog[].release_summary? string
	`)
	commandShape = shape(`
		dominion uuid
		domain uuid
		epoch count
		generation count
		run? word
		key? word
		signature? word
		at time
		timing object
		timing.heartbeat number
		timing.lost_after number
		timing.failover_after number
		timing.isolation number
		timing.settle number
		services object
		services.* object
		services.*.revision word
		services.*.target? string
		services.*.port? count
		services.*.environment? object
		services.*.environment.* string
		services.*.environment_file? string
		services.*.dependencies? object
		services.*.dependencies.* word
		services.*.versions? object
		services.*.versions.* string
		services.*.restart object
		services.*.restart.policy always|on-failure|never
		services.*.restart.delay number
		services.*.restart.max_delay number
		services.*.health? object
		services.*.health.http? word
		services.*.health.tcp? bool
		services.*.health.notify? bool
		services.*.health.interval? number
		services.*.health.timeout? number
		services.*.health.failures? count
		services.*.start_timeout number
		services.*.stop_timeout number
		services.*.exclusive? bool
	`)
	serviceShape = shape(`
		service word
		state ` + states + `
		switch ON|OFF
		wanted count
		replicas? count
		running count
		healthy count
		reason word
		link? word
		last_error? object
		last_error.at time
		last_error.domain word
		last_error.message string
		version? word
		update? object
		update.installed_version string
		update.latest_version string
		update.in_progress bool
		update.update_percentage? count
		update.updated? count
		update.total? count
		update.waits? string
		update.problem? string
		update.release_url? word
		update.release_summary? string
		instances list
		instances[].domain word
		instances[].state ` + states + `
		instances[].health ` + healths + `
		instances[].version string
		instances[].address string
		instances[].port count
		instances[].next_try? time
	`)
	endpointsShape = shape(`
		[].domain word
		[].address word
		[].port count
		[].version string
		[].healthy bool
	`)
	eventShape = shape(`
		at time
		type word
		domain? word
		service? word
		message word
		session? word
		seq? count
		signature? word
	`)
)

// Every topic, as a stranger with mosquitto_sub sees it.
func TestTopicsFieldByField(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		kitchen := home.Domain("kitchen", "compute")
		kitchen.Install("web", "lamp")
		kitchen.Write("web", "service.toml", "version = \"1.4.2\"\n")
		home.Configure(service("web", `priority = "dependency"`, `traits = ["compute"]`, `port = 8080`, healthHTTP) +
			service("lamp", `priority = "required"`, `dependencies = ["web >=1.4"]`, `environment = { COLOUR = "blue" }`))
		hub, agents, live := home.Up(kitchen)
		live.Until("web and lamp are healthy and metrics are told", func(v View) bool {
			return v.Healthy("web", 1) && v.Healthy("lamp", 1) && v["dominion/domain/kitchen/metrics"].Payload != ""
		})
		// a stranger who comes later finds all of it retained
		o := home.Observe("dominion/#")
		o.Until("the last start command is obeyed, and counted what runs", func(v View) bool {
			c, b := v.Command("kitchen"), v.Heartbeat("kitchen")
			hub, _ := look[topics.Hub](v, "dominion/hub/status")
			return c.Epoch == b.Epoch && c.Generation == b.Generation && len(c.Services) == 2 && hub.Services.Running == 2 && hub.Domains.Online == 1
		})
		now := o.Latest()
		for _, want := range []struct {
			topic string
			qos   int // mosquitto keeps a message with the QoS of its publishing
			shape shape
		}{
			{"dominion/hub/status", 1, hubShape},
			{"dominion/hub/adoption", 1, adoptionShape},
			{"dominion/domain/kitchen/heartbeat", 0, heartbeatShape},
			{"dominion/domain/kitchen/metrics", 0, metricsShape},
			{"dominion/domain/kitchen/status", 1, domainShape},
			{"dominion/domain/kitchen/condition", 1, conditionShape},
			{"dominion/domain/kitchen/services/set", 1, commandShape},
			{"dominion/service/web/status", 1, serviceShape},
			{"dominion/service/lamp/status", 1, serviceShape},
			{"dominion/service/web/endpoints", 1, endpointsShape},
			{"dominion/service/lamp/endpoints", 1, endpointsShape},
		} {
			m, ok := firstOf(o, want.topic)
			if !ok || !m.Retain {
				t.Errorf("%s is not retained: %v", want.topic, m)
				continue
			}
			if m.QoS != want.qos {
				t.Errorf("%s has QoS %d, want %d", want.topic, m.QoS, want.qos)
			}
			want.shape.check(t, m)
		}
		for _, topic := range []string{"dominion/hub/availability", "dominion/domain/kitchen/availability"} {
			if m := now[topic]; m.Payload != "online" || !m.Retain || m.QoS != 1 {
				t.Errorf("%s is %v, want online, retained, QoS 1", topic, m)
			}
		}
		for _, m := range o.Since(Mark{}) {
			for _, imperative := range []string{"/event", "/command", "/response", "/log", "/lease", "/drain/set", "dominion/request/", "dominion/response/"} {
				if m.Retain && strings.Contains(m.Topic, imperative) {
					t.Errorf("is retained and must not be: %v", m)
				}
			}
			if m.Retain && strings.HasPrefix(m.Topic, "dominion/service/") && strings.HasSuffix(m.Topic, "/set") {
				t.Errorf("is retained and must not be: %v", m)
			}
		}
		for _, m := range live.Since(Mark{}) {
			if strings.HasSuffix(m.Topic, "/event") {
				eventShape.check(t, m)
				if kind := decode[topics.Event](t, m).Type; !slices.Contains(topics.EventTypes(), kind) {
					t.Errorf("the type %q is not of the closed list: %v", kind, m)
				}
			}
		}

		t.Log("what is said is so")
		d := now.Domain("kitchen")
		address := netip.MustParseAddr(kitchen.Address()).String()
		if d.Name != "kitchen" || d.Version != version || d.Protocol != topics.Protocol || d.OS != "linux" || d.Address != address || !slices.Contains(d.Addresses, address) {
			t.Errorf("status of kitchen at %s: %+v", address, d)
		}
		if !slices.Equal(d.Traits, []string{"compute"}) || len(d.Catalog) != 2 || len(d.Services) != 2 {
			t.Errorf("traits %q, catalog %v, services %v", d.Traits, d.Catalog, d.Services)
		}
		instance := now.Instance("kitchen", "web")
		if instance.State != topics.Running || instance.Health != topics.Healthy || instance.Version != "1.4.2" ||
			instance.Port != 8080 || instance.Address != address || instance.Restarts != 0 || !alive(instance.PID) {
			t.Errorf("web on kitchen: %+v", instance)
		}
		command := now.Command("kitchen")
		if b := now.Heartbeat("kitchen"); b.ID != d.ID || b.Epoch != command.Epoch || b.Generation != command.Generation || command.Domain != d.ID {
			t.Errorf("heartbeat %+v, command %d.%d to %s, domain %s", b, command.Epoch, command.Generation, command.Domain, d.ID)
		}
		if got := command.Timing; got.Heartbeat.Duration() != time.Second || got.LostAfter.Duration() != 3*time.Second ||
			got.FailoverAfter.Duration() != 500*time.Millisecond || got.Isolation.Duration() != 10*time.Second || got.Settle.Duration() != 10*time.Second {
			t.Errorf("timing in the start command is not the design's: %+v", got)
		}
		hubStatus, _ := look[topics.Hub](now, "dominion/hub/status")
		if hubStatus.ID != command.Dominion || hubStatus.Name != "home" || hubStatus.Version != version || hubStatus.Epoch != command.Epoch ||
			hubStatus.Domains != (topics.DomainCount{Online: 1}) || hubStatus.Services != (topics.ServiceCount{Wanted: 2, Running: 2}) {
			t.Errorf("hub/status: %+v", hubStatus)
		}
		if s := now.Service("web"); s.Service != "web" || s.Switch != "ON" || s.Version != "1.4.2" || s.Instances[0].Domain != "kitchen" {
			t.Errorf("status of web: %+v", s)
		}

		t.Log("heartbeats count up, once a second")
		mark := o.Now()
		beat := awaitLiveHeartbeat(o, mark, "kitchen")
		next := o.Await("the next heartbeat", mark, func(m Message) bool {
			return m.Topic == beat.Topic && decode[topics.Heartbeat](t, m).Seq == decode[topics.Heartbeat](t, beat).Seq+1
		})
		if gap := decode[topics.Heartbeat](t, next).At.Sub(decode[topics.Heartbeat](t, beat).At.Time); gap < 700*time.Millisecond || gap > 1500*time.Millisecond {
			t.Errorf("two heartbeats are %v apart, want 1s", gap)
		}

		t.Log("the endpoint answers, and the process knows what it should")
		e := now.Endpoints("web")[0]
		if want := (topics.Endpoint{Domain: "kitchen", Address: address, Port: 8080, Version: "1.4.2", Healthy: true}); e != want {
			t.Errorf("endpoint %+v, want %+v", e, want)
		}
		environment := askEnvironment(t, home, e)
		for key, want := range map[string]string{
			"SERVICE_NAME": "web", "SERVICE_PORT": "8080", "SERVICE_VERSION": "1.4.2",
			"DOMAIN_NAME": "kitchen", "DOMAIN_IP": address, "DOMAIN_UUID": d.ID, "DOMINION_TOPIC_PREFIX": "dominion",
		} {
			if environment[key] != want {
				t.Errorf("%s is %q, want %q", key, environment[key], want)
			}
		}
		for _, key := range []string{"DOMINION_INSTANCE", "DOMINION_IP", "DOMINION_PORT", "DOMINION_URL", "SERVICE_DATA_DIR"} {
			if environment[key] == "" {
				t.Errorf("%s is not in the environment of web", key)
			}
		}
		if strings.Contains(environment["DOMINION_URL"], "@") && strings.Contains(environment["DOMINION_URL"], "horse") {
			t.Errorf("DOMINION_URL carries a password: %s", environment["DOMINION_URL"])
		}
		lamp := now.Endpoints("lamp")[0]
		if lamp.Port < 20000 || lamp.Port > 29999 {
			t.Errorf("lamp was given port %d, want one of 20000 to 29999", lamp.Port)
		}
		if colour := askEnvironment(t, home, lamp)["COLOUR"]; colour != "blue" {
			t.Errorf("COLOUR of lamp is %q", colour)
		}

		t.Log("the ends say offline")
		mark = o.Now()
		agents[0].Stop()
		if m := o.AwaitTopic(mark, "dominion/domain/kitchen/availability", "offline"); m.Retain {
			t.Errorf("%v", m)
		}
		hub.Stop()
		// of the embedded broker's goodbye a client sees what was sent before the end
		if home.Broker == External {
			o.AwaitTopic(mark, "dominion/hub/availability", "offline")
		}
	})
}

func firstOf(o *Observer, topic string) (Message, bool) {
	for _, m := range o.Since(Mark{}) {
		if m.Topic == topic {
			return m, true
		}
	}
	return Message{}, false
}

// A service that is sick is not offered, and is offered again when it is well.
func TestHealthDecidesTheEndpoints(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	home.Configure(service("web", `priority = "required"`, healthHTTP))
	_, _, o := home.Up(kitchen)
	o.Until("web is healthy", func(v View) bool { return v.Healthy("web", 1) })
	dir := askEnvironment(t, home, o.Latest().Endpoints("web")[0])["SERVICE_DATA_DIR"]
	if !strings.HasPrefix(dir, kitchen.DataDir()) {
		t.Errorf("SERVICE_DATA_DIR %q is not below %s", dir, kitchen.DataDir())
	}
	before := home.Journal.Running(t)

	mark := o.Now()
	kitchen.must(writeFile(filepath.Join(dir, "sick"), ""))
	o.AwaitEvent(mark, "dominion/hub/event", topics.ServiceUnhealthy, "kitchen", "web")
	o.Until("web is shown unhealthy, and not offered as healthy", func(v View) bool {
		e := v.Endpoints("web")
		return v.Instance("kitchen", "web").Health == topics.Unhealthy && v.Service("web").Healthy == 0 && (len(e) == 0 || !e[0].Healthy)
	})
	kitchen.must(command("rm", filepath.Join(dir, "sick")))
	o.Until("web is well again", func(v View) bool { return v.Healthy("web", 1) })
	if now := home.Journal.Running(t); !slices.Equal(now, before) {
		t.Logf("web was restarted for its sickness: %q, before %q", now, before)
	}
}

// Requests are answered on the response topic, as Zigbee2MQTT does.
func TestRequestAndResponse(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.Configure("")
		_, _, o := home.Up()
		ask := func(verb, request string) topics.Reply {
			t.Helper()
			mark := o.Now()
			home.Publish("dominion/request/"+verb, request)
			m := o.Await("the answer to "+verb, mark, func(m Message) bool { return m.Topic == "dominion/response/"+verb })
			return decode[topics.Reply](t, m)
		}
		if r := ask("version", `{"transaction": "t1"}`); r.Transaction != "t1" || r.Status != "ok" || !strings.Contains(string(r.Data), version) {
			t.Errorf("version: %+v", r)
		}
		if r := ask("start", `{"transaction": "t2", "service": "nosuch"}`); r.Transaction != "t2" || r.Status != "error" || !strings.Contains(r.Error, "nosuch") {
			t.Errorf("start of an unknown service: %+v", r)
		}
		if r := ask("start", `{"transaction": "t3", "service": 7}`); r.Status != "error" || !strings.Contains(r.Error, "service") {
			t.Errorf("start of a number: %+v", r)
		}
		var overview topics.Overview
		if r := ask("status", `{"transaction": "t4"}`); json.Unmarshal(r.Data, &overview) != nil || overview.Hub.Name != "home" {
			t.Errorf("status: %+v", r)
		}
		mark := o.Now()
		home.Publish("dominion/request/version", `{"transaction": "t5"}`, "-V", "5",
			"-D", "PUBLISH", "response-topic", "e2e/answer", "-D", "PUBLISH", "correlation-data", "c5")
		want := []string{"e2e/answer"}
		if home.Broker == External {
			// the hub speaks MQTT 3.1.1 to a foreign broker, which drops the properties
			want = append(want, "dominion/response/version")
		}
		o.Await(fmt.Sprintf("the answer on one of %q", want), mark, func(m Message) bool { return slices.Contains(want, m.Topic) })
	})
}
