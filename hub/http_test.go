package hub

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/metrics"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/hub/web"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Figures of hub, domain, service and broker, and readiness that says what is
// missing. Names that nobody defined are no labels.
func TestFiguresByHTTP(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	state, err := store.Open(t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Prefix: "dominion", Listen: "127.0.0.1:0"}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Stop(context.Background()) }()
	cfg := config.Dominion{Name: "home", TopicPrefix: "dominion", Metrics: "127.0.0.1:0", Timing: config.DefaultTiming(), Services: []services.Definition{{Name: "web", Priority: services.Required}}}
	cfg.HomeAssistant.DiscoveryPrefix = "homeassistant"
	h := New(Options{Config: cfg, Version: "1.2.3", Store: state, Bus: b, Broker: embedded{Broker: b}, Log: log})
	if err := h.Attach(b); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); h.Run(ctx) }()
	defer func() { cancel(); <-over }()
	site, err := web.Listen(config.Dominion{Metrics: "127.0.0.1:0"}, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	serving, end := context.WithCancel(t.Context())
	defer site.Serve(serving, Service{bridges: new(bridges)}.handlers(h, b, nil))()
	defer end()
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get("http://" + site.Addresses()[0].String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(body)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	if code, why := get("/readyz"); code != 503 || !strings.Contains(why, "not ready") {
		t.Errorf("readyz of a hub that is not connected: %d %s", code, why)
	}
	h.Connected()
	until := time.Now().Add(2 * time.Minute)
	for {
		if _, why := get("/readyz"); strings.Contains(why, "does not listen") {
			break
		} else if time.Now().After(until) {
			t.Fatalf("readyz without a listener: %s", why)
		}
	}
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	if code, why := get("/readyz"); code != 200 {
		t.Errorf("readyz: %d %s", code, why)
	}
	_, got := get("/metrics")
	for _, want := range []string{
		`dominion_info{version="1.2.3",name="home"} 1`, "dominion_hub_ready 1", `dominion_service_wanted{service="web"} 0`,
		"# TYPE dominion_broker_messages_dropped_total counter", `dominion_broker_publishes_total{direction="in"} 0`, "dominion_broker_clients_connected 0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

// What a domain reports of itself is exported while it is online. Services that nobody
// defined are no labels.
func TestFiguresOfDomains(t *testing.T) {
	state, err := store.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := New(Options{Config: config.Dominion{TopicPrefix: "dominion"}, Store: state, Log: slog.New(slog.DiscardHandler)})
	h.views.statuses.Set(topics.Service{Service: "web"})
	reported := &topics.Metrics{Load1: 0.5, MemoryUsed: 1000, Services: map[string]topics.Usage{"web": {CPU: 0.25, Memory: 123}, "made-up": {CPU: 1}}}
	h.fleet.Restore(domain{Name: "pi", State: topics.DomainIsOnline, Metrics: reported}, false)
	h.fleet.Restore(domain{Name: "attic", State: topics.DomainIsLost, Metrics: reported}, false)
	var b strings.Builder
	if err := metrics.Write(&b, h.reportFigures().families); err != nil {
		t.Fatal(err)
	}
	for want, there := range map[string]bool{
		`dominion_domain_up{domain="pi"} 1`: true, `dominion_domain_up{domain="attic"} 0`: true,
		`dominion_domain_load1{domain="pi"} 0.5`: true, `dominion_domain_load1{domain="attic"}`: false,
		`dominion_domain_memory_used_bytes{domain="pi"} 1000`: true, `dominion_domain_temperature`: false,
		`dominion_instance_cpu_cores{domain="pi",service="web"} 0.25`: true, "made-up": false,
	} {
		if strings.Contains(b.String(), want) != there {
			t.Errorf("%s is there: %v, in\n%s", want, !there, b.String())
		}
	}
}

// The figures for Prometheus and those at $SYS are the same.
func TestMetricsAgreeWithSys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.New(broker.Config{Prefix: "dominion", Limits: broker.Limits{MaxConnections: 3, MaxQueuedMessages: 10}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		dial := func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			b.Serve(theirs)
			return ours, nil
		}
		connect := func(id string, keep bool) *client.Conn {
			t.Helper()
			c, err := client.Connect(t.Context(), client.Options{Dial: dial, ClientID: id, Persistent: keep, KeepAlive: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		away := connect("away", true)
		if err := away.Subscribe(t.Context(), "a/#", "$share/g/a/#"); err != nil {
			t.Fatal(err)
		}
		away.Close()
		one, two := connect("one", false), connect("two", false)
		if err := two.Subscribe(t.Context(), "a/+"); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			one.Publish(topics.Message{Topic: fmt.Sprint("a/", i%7), Payload: []byte("payload"), QoS: byte(i % 2), Retain: i%3 == 0})
		}
		if err := one.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		three := connect("three", false)
		if _, err := client.Connect(t.Context(), client.Options{Dial: dial, ClientID: "four", Timeout: time.Second}); err == nil {
			t.Fatal("a fourth connection")
		}
		synctest.Wait()

		var text strings.Builder
		if err := metrics.Write(&text, ofBroker(b)); err != nil {
			t.Fatal(err)
		}
		prometheus := make(map[string]string)
		for line := range strings.Lines(text.String()) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			prometheus[name] = value
		}
		sys := make(map[string]string)
		if err := b.Subscribe("$SYS/broker/#", func(m topics.Message) { sys[strings.TrimPrefix(m.Topic, "$SYS/broker/")] = string(m.Payload) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second) // $SYS is published each ten
		synctest.Wait()
		for name, like := range map[string]string{
			"clients/connected":         "dominion_broker_clients_connected",
			"clients/total":             "dominion_broker_sessions",
			"clients/expired":           "dominion_broker_sessions_expired_total",
			"subscriptions/count":       "dominion_broker_subscriptions",
			"messages/received":         `dominion_broker_packets_total{direction="in"}`,
			"messages/sent":             `dominion_broker_packets_total{direction="out"}`,
			"bytes/received":            `dominion_broker_bytes_total{direction="in"}`,
			"bytes/sent":                `dominion_broker_bytes_total{direction="out"}`,
			"publish/messages/received": `dominion_broker_publishes_total{direction="in"}`,
			"publish/messages/sent":     `dominion_broker_publishes_total{direction="out"}`,
			"publish/bytes/received":    `dominion_broker_payload_bytes_total{direction="in"}`,
			"publish/bytes/sent":        `dominion_broker_payload_bytes_total{direction="out"}`,
			"publish/messages/dropped":  "dominion_broker_messages_dropped_total",
			"connections/refused/count": "dominion_broker_connections_refused_total",
		} {
			if sys[name] == "" || prometheus[like] != sys[name] {
				t.Errorf("$SYS/broker/%s is %q, %s is %q", name, sys[name], like, prometheus[like])
			}
		}
		for _, name := range []string{"dominion_broker_messages_dropped_total", "dominion_broker_connections_refused_total", `dominion_broker_publishes_total{direction="out"}`} {
			if prometheus[name] == "0" {
				t.Errorf("%s is 0: the test tells nothing", name)
			}
		}
		one.Close()
		two.Close()
		three.Close()
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
