package config

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

var testHost = host{uid: 1000, name: "test-host", tempFolder: "/tmp"}

// in returns the absolute path of a name below testdata.
func in(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryKeyOfADominionArrives(t *testing.T) {
	got, err := loadDominion("testdata/full-dominion.toml", nil, testHost)
	if err != nil {
		t.Fatal(err)
	}
	web := services.Default("web")
	web.Traits = []string{"compute"}
	web.Port = 8080
	web.Health = &services.Health{Notify: true, Watchdog: 30 * time.Second, Interval: 5 * time.Second, Timeout: time.Second, Failures: 3}
	web.Scale = &services.Scale{Min: 2, Max: 5, Metric: "mqtt:web/queue", Field: "jobs.waiting", Target: 2.5, Cooldown: 90 * time.Second, MaxAge: 3 * time.Hour}
	orchestrator := services.Default("lightorchestrator")
	orchestrator.Dependencies = []services.Dependency{{Service: "web"}}
	orchestrator.Exclusive = true
	orchestrator.Health = &services.Health{MQTT: "lights/<domain>/status", Payload: "ok", Interval: 5 * time.Second, Timeout: time.Second, Failures: 3}
	want := Dominion{
		File:        "testdata/full-dominion.toml",
		Name:        "cottage",
		DataDir:     "/srv/dominion",
		TopicPrefix: "my/dominion", Metrics: "127.0.0.1:9090",
		Broker: Broker{
			Listen: "192.168.1.2:1883", ListenTLS: "192.168.1.2:8883", ListenWS: "[::1]:8083",
			ListenWSS: ":8084", ListenUnix: in(t, "run/mqtt"),
			CertFile: in(t, "tls/cert.pem"), KeyFile: in(t, "tls/key.pem"),
			ClientCAFile: in(t, "tls/clients.pem"), RequireCertificate: true,
			AllowAnonymous: true,
			Users: []User{
				{Name: "pi-kitchen", PasswordFile: in(t, "passwords/pi-kitchen"), Role: RoleDomain, Certificate: true},
				{Name: "ada", PasswordHash: "$2a$10$DnEL4IBCRCCu22LPWSUJWuLgnkVk5fOCNd4d5h8nnxOgpQ8ymPYd6", Role: RoleAdmin},
			},
			Bridges: []Bridge{{
				Name: "attic", URL: "mqtts://home@attic.lan:8883", ClientID: "cottage", User: "ada",
				PasswordFile: in(t, "passwords/attic"), CAFile: in(t, "tls/attic.pem"), CertFile: in(t, "tls/cert.pem"), KeyFile: in(t, "tls/key.pem"),
				Topics: []BridgeTopic{
					{Filter: "zigbee2mqtt/#", Direction: BridgeIn, LocalPrefix: "attic/"},
					{Filter: "#", Direction: BridgeBoth, QoS: 1, LocalPrefix: "shared/", RemotePrefix: "cottage/"},
				},
			}},
			Rules: []access.Rule{
				{Name: "no-tv", Users: []string{"tv"}, Actions: []access.Action{access.Publish, access.Subscribe}, Deny: true, Topics: []string{"cmnd/#"}},
				{Name: "notes", Roles: []string{"reader", "device"}, Actions: []access.Action{access.Subscribe}, Topics: []string{"notes/%u/#"}},
			},
			Persistence: Persistence{Sync: 250 * time.Millisecond, Exclude: []string{"sensors/+/raw", "camera/#"}},
			Limits: Limits{
				MaxConnections: 500, MaxConnecting: 60, ConnectionsPerAddress: 50, ConnectionsPerSecond: 20,
				ConnectTimeout: 5 * time.Second, WriteTimeout: 6 * time.Second,
				MaxPacket: 1 << 20, MaxKeepAlive: 5 * time.Minute, MaxInflight: 100,
				MaxQueuedMessages: 1000, MaxQueuedBytes: 4 << 20, MaxSubscriptions: 200, MaxWildcardSubscriptions: 70, Memory: 50_000_000,
				MaxTopicLevels: 20, MaxTopicLength: 1024, MessagesPerSecond: 300, BytesPerSecond: 100_000,
				MaxRetained: 20_000, MaxRetainedBytes: 8 << 20, MaxSessions: 300, MaxSessionExpiry: 24 * time.Hour, TopicAliasMaximum: 10,
			},
			UserLimits: UserLimits{Clients: 40, QueuedBytes: 5 << 20, Memory: 20_000_000, WrittenBytes: 7_000_000},
		},
		HTTP: HTTP{
			Listen: "127.0.0.1:8181", ListenTLS: ":8444", CertFile: in(t, "tls/web.pem"), KeyFile: in(t, "tls/web-key.pem"),
			AllowedOrigins: []string{"https://home.example:443", "http://192.168.1.2:8123"},
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("172.30.32.0/23")},
			FrameAncestors: []string{"http://homeassistant.local:8123"},
		},
		Registry:      Registry{Max: 3_000_000_000},
		Identity:      Identity{Lifetime: topics.Seconds(720 * time.Hour), AuthorityCert: in(t, "tls/authority.pem"), AuthorityKey: in(t, "tls/authority-key.pem"), Adoption: AdoptionOpen},
		Zeroconf:      Zeroconf{Interfaces: []string{"eth0", "wlan0"}},
		HomeAssistant: HomeAssistant{DiscoveryPrefix: "ha"},
		Timing: topics.Timing{
			Heartbeat: topics.Seconds(2 * time.Second), LostAfter: topics.Seconds(7 * time.Second),
			FailoverAfter: topics.Seconds(1500 * time.Millisecond), Isolation: topics.Seconds(20 * time.Second),
		},
		Services: []services.Definition{orchestrator, {
			Name:            "npbar",
			Priority:        services.Required,
			Traits:          []string{"npbar", "compute"},
			Replicas:        3,
			Domains:         []string{"pi-kitchen", "attic"},
			Target:          "run",
			Port:            9090,
			Environment:     map[string]string{"COLOUR": "blue"},
			EnvironmentFile: "/etc/npbar.env",
			Restart:         services.RestartPolicy{Policy: "on-failure", Delay: 2 * time.Second, MaxDelay: 2 * time.Minute},
			Oneshot:         true,
			Health:          &services.Health{HTTP: "/health", Interval: 6 * time.Second, Timeout: 2 * time.Second, Failures: 4},
			StartTimeout:    3 * time.Minute,
			StopTimeout:     20 * time.Second,
			Needs:           services.Needs{CPU: 0.5, Memory: 256_000_000},
			Update:          services.UpdateManual,
		}, web},
	}
	// A range holds a function, which has no equality: compared by its text.
	npbar := &got.Services[1]
	if v, d := npbar.Version.String(), npbar.Dependencies; v != ">=1.0.0 <2.0.0" || len(d) != 1 || d[0].Service != "lightorchestrator" || d[0].Version.String() != ">=1.2" {
		t.Errorf("version %q, dependencies %v", v, d)
	}
	npbar.Version, npbar.Dependencies = services.Range{}, nil
	equal(t, got, want)
}

func TestExternalBrokerArrives(t *testing.T) {
	got, err := loadDominion("", []string{
		"DOMINION_CFG_BROKER_EXTERNAL=mqtts://hub@mosquitto.lan:8883",
		"DOMINION_CFG_BROKER_PASSWORD_FILE=/etc/password",
		"DOMINION_CFG_BROKER_CAFILE=/etc/ca.pem",
	}, testHost)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got.Broker, Broker{
		Listen: DefaultListen, ListenTLSIsDefault: true, External: "mqtts://hub@mosquitto.lan:8883",
		PasswordFile: "/etc/password", CAFile: "/etc/ca.pem",
		Persistence: Persistence{Sync: DefaultSync}, Limits: DefaultLimits(), UserLimits: DefaultUserLimits(),
	})
}

func TestEveryKeyOfADomainArrives(t *testing.T) {
	got, err := loadDomain("testdata/full-domain.toml", nil, testHost)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, Domain{
		File:         "testdata/full-domain.toml",
		Name:         "pi-kitchen",
		Traits:       []string{"compute", "npbar"},
		ServicesDir:  in(t, "services"),
		DataDir:      "/srv/domain",
		Address:      "192.168.1.20",
		Hub:          "mqtts://hub.lan:8883",
		User:         "pi-kitchen",
		PasswordFile: in(t, "password"),
		TraitsFrom: []TraitSource{
			{Trait: "gpu", Command: []string{"nvidia-smi", "-L"}, Interval: 30 * time.Second, Timeout: 2 * time.Second},
			{Trait: "night", MQTT: "home/mode", Payload: "night", Interval: DefaultTraitInterval, Timeout: DefaultTraitTimeout},
			{Trait: "zigbee-stick", Path: "/dev/serial/by-id/*Sonoff*", Interval: DefaultTraitInterval, Timeout: DefaultTraitTimeout},
		},
		CAFile:             in(t, "../ca.pem"),
		CertFile:           in(t, "cert.pem"),
		KeyFile:            in(t, "key.pem"),
		Dominion:           "cottage",
		TopicPrefix:        "my/dominion",
		StopServicesOnExit: true,
		RunAs:              "pi",
		Accept:             AcceptLocal,
		Adoption:           AdoptionOpen,
		TokenFile:          in(t, "token"),
		FetchRate:          5_000_000,
		AllowRoot:          []string{"mount-usb"},
		Zeroconf:           Zeroconf{Interfaces: []string{"eth0"}},
	})
}

func TestEveryKeyOfAServiceArrives(t *testing.T) {
	got, err := LoadService("testdata/full-service.toml")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, Service{
		File:        "testdata/full-service.toml",
		Version:     "1.2.0",
		ReleaseURL:  "https://example.com/web/1.2.0",
		Summary:     "Faster.",
		Command:     []string{"./web", "-v"},
		Port:        8080,
		Environment: map[string]string{"COLOUR": "blue", "PATH": "/opt/web/bin:/usr/bin"},
		Variables:   []string{"COLOUR", "MQTT_*"},
		Restart:     &services.RestartPolicy{Policy: "never", Delay: 2 * time.Second, MaxDelay: 2 * time.Minute},
		Health: &ServiceHealth{
			Health:  services.Health{Interval: 6 * time.Second, Timeout: 2 * time.Second, Failures: 4},
			Command: []string{"./well", "now"},
		},
		StartTimeout: 3 * time.Minute,
		StopTimeout:  20 * time.Second,
	})
}

// The full files must differ from the defaults in every field, or a key that
// does not arrive would not be seen.
func TestFullFilesDifferFromDefaults(t *testing.T) {
	defaults, err := loadDominion("", nil, testHost)
	if err != nil {
		t.Fatal(err)
	}
	full, err := loadDominion("testdata/full-dominion.toml", nil, testHost)
	if err != nil {
		t.Fatal(err)
	}
	external := map[string]bool{"External": true, "PasswordFile": true, "CAFile": true} // TestExternalBrokerArrives
	differ(t, reflect.ValueOf(defaults), reflect.ValueOf(full), external)
	differ(t, reflect.ValueOf(defaults.Broker), reflect.ValueOf(full.Broker), external)
	differ(t, reflect.ValueOf(defaults.Broker.Persistence), reflect.ValueOf(full.Broker.Persistence), nil)
	differ(t, reflect.ValueOf(defaults.Broker.Limits), reflect.ValueOf(full.Broker.Limits), nil)
	differ(t, reflect.ValueOf(defaults.Timing), reflect.ValueOf(full.Timing), nil)
	differ(t, reflect.ValueOf(services.Default("")), reflect.ValueOf(full.Services[1]), map[string]bool{"Exclusive": true, "Scale": true, "Bundle": true}) // TestEveryKeyOfADominionArrives, TestParseDefinitions

	defaultDomain, err := loadDomain("", nil, testHost)
	if err != nil {
		t.Fatal(err)
	}
	fullDomain, err := loadDomain("testdata/full-domain.toml", nil, testHost)
	if err != nil {
		t.Fatal(err)
	}
	differ(t, reflect.ValueOf(defaultDomain), reflect.ValueOf(fullDomain), nil)
}

func differ(t *testing.T, a, b reflect.Value, except map[string]bool) {
	t.Helper()
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		if !except[name] && reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			t.Errorf("%s.%s is the default in the full file", a.Type().Name(), name)
		}
	}
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestDefaults(t *testing.T) {
	got, err := loadDominion("", nil, host{uid: 0})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, Dominion{
		Name: "home", DataDir: "/var/lib/dominion", TopicPrefix: "dominion",
		Broker: Broker{
			Listen: "127.0.0.1:1883", ListenTLS: ":8883", ListenTLSIsDefault: true, Persistence: Persistence{Sync: 100 * time.Millisecond}, Limits: DefaultLimits(), UserLimits: DefaultUserLimits(),
		},
		HTTP:          HTTP{Listen: DefaultHTTPListen, ListenTLS: DefaultHTTPListenTLS, ListenIsDefault: true, ListenTLSIsDefault: true},
		Registry:      Registry{Max: DefaultRegistryMax},
		Identity:      Identity{Lifetime: topics.Seconds(identity.DefaultLifetime), Adoption: AdoptionAsk},
		Zeroconf:      Zeroconf{Enabled: true},
		HomeAssistant: HomeAssistant{Enabled: true, DiscoveryPrefix: "homeassistant"},
		Devices:       Devices{Enabled: true},
		Timing:        DefaultTiming(),
	})
	domain, err := loadDomain("", nil, host{uid: 0, name: "raspberrypi"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, domain, Domain{
		Name: "raspberrypi", ServicesDir: "/usr/local/dominion/services",
		DataDir: "/var/lib/dominion-domain", TopicPrefix: "dominion", Accept: AcceptDeploy, AcceptIsDefault: true, Adoption: AdoptionAsk,
		Zeroconf: Zeroconf{Enabled: true},
	})
}

func TestDefaultDataDir(t *testing.T) {
	for _, c := range []struct {
		name, file string
		uid        int
		environ    []string
		want       string
	}{
		{"root", "", 0, []string{"HOME=/root"}, "/var/lib/dominion"},
		{"a file", "testdata/empty.toml", 1000, []string{"HOME=/home/ada"}, "/var/lib/dominion"},
		{"a user", "", 1000, []string{"HOME=/home/ada"}, "/home/ada/.local/state/dominion"},
		{"XDG", "", 1000, []string{"HOME=/home/ada", "XDG_STATE_HOME=/state"}, "/state/dominion"},
		{"relative XDG", "", 1000, []string{"HOME=/home/ada", "XDG_STATE_HOME=state"}, "/home/ada/.local/state/dominion"},
		{"neither", "", 1000, []string{"HOME="}, "/tmp/dominion-1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := loadDominion(c.file, c.environ, host{uid: c.uid, tempFolder: "/tmp"})
			if err != nil {
				t.Fatal(err)
			}
			if d.DataDir != c.want {
				t.Errorf("data_dir %s, want %s", d.DataDir, c.want)
			}
		})
	}
}

func TestSyncAlways(t *testing.T) {
	d, err := loadDominion("", []string{"DOMINION_CFG_BROKER_PERSISTENCE_SYNC=always", "DOMINION_CFG_BROKER_PERSISTENCE_EXCLUDE=a/#, +/b"}, testHost)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, d.Broker.Persistence, Persistence{Sync: 0, Exclude: []string{"a/#", "+/b"}})
}
