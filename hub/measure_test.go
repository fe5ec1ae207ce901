package hub

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/metrics"
	"github.com/jmbarzee/dominion/hub/store"
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
	h := New(Options{Config: cfg, Version: "1.2.3", Store: state, Bus: b, Broker: b, Log: log})
	if err := h.Attach(b); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); h.Run(ctx) }()
	defer func() { cancel(); <-over }()
	server := httptest.NewServer(metricsHandler(h, b))
	defer server.Close()
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get(server.URL + path)
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

// What a domain says of itself is told while it is online. Services that nobody
// defined are no labels.
func TestFiguresOfDomains(t *testing.T) {
	state, err := store.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := New(Options{Config: config.Dominion{TopicPrefix: "dominion"}, Store: state, Log: slog.New(slog.DiscardHandler)})
	h.views["web"] = topics.Service{Service: "web"}
	said := &topics.Metrics{Load1: 0.5, MemoryUsed: 1000, Services: map[string]topics.Usage{"web": {CPU: 0.25, Memory: 123}, "made-up": {CPU: 1}}}
	h.domains["pi"] = &domain{name: "pi", state: topics.DomainIsOnline, said: said}
	h.domains["attic"] = &domain{name: "attic", state: topics.DomainIsLost, said: said}
	var b strings.Builder
	if err := metrics.Write(&b, h.tellFigures().families); err != nil {
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

func TestMetricsAreOff(t *testing.T) {
	wait, err := Service{Log: slog.New(slog.DiscardHandler)}.serveMetrics(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	wait()
}
