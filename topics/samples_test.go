package topics

import (
	"encoding/json"
	"strings"
	"time"
)

// What the samples of docs/protocol.md tell: the dominion "home" with the
// domain "pi-kitchen" that runs "npbar", which needs "web".

func at(seconds int) Time {
	return At(time.Date(2026, time.January, 2, 15, 4, 5, 250e6, time.UTC).Add(time.Duration(seconds) * time.Second))
}

func ptr[T any](v T) *T { return &v }

const (
	homeID    = "3f2a91c4-77aa-4c1e-9a52-0c4f1f3c0d11"
	kitchenID = "7d1c8a52-5f0e-4a7b-8a35-6d2f6c9d3b10"
	session   = "b1946ac92492d234"
	asked     = "ctl-1f0c"
	hubRun    = "7k2qmx5a"
)

var (
	hubSample = Hub{
		ID: homeID, Name: "home", Version: "1.0.0", Protocol: Protocol, Epoch: 12, StartedAt: at(-3600), Ready: true,
		Domains: DomainCount{Online: 2, Offline: 1}, Services: ServiceCount{Wanted: 3, Running: 3},
	}
	serviceSample = Service{
		Service: "web", State: Running, Switch: On, Wanted: 1, Replicas: 1, Running: 1, Healthy: 1,
		Reason: "npbar needs it", Version: "1.4.0", Link: "http://192.168.1.20:8080/",
		LastError: &ServiceError{At: at(-7200), Domain: "pi-kitchen", Message: "exit code 1: no such table: drinks"},
		Update:    ServiceUpdate{Installed: "1.4.0", Latest: "1.4.0", ReleaseURL: "https://example.com/web/releases/1.4.0"},
		Instances: []ServiceInstance{{Domain: "pi-kitchen", State: Running, Health: Healthy, Version: "1.4.0", Address: "192.168.1.20", Port: 8080}},
	}
	instanceSample = Instance{
		Service: "web", State: Running, Health: Healthy, Version: "1.4.0", Revision: "5c0b29f1a4d3",
		Address: "192.168.1.20", Port: 8080, PID: 4711, Since: at(-120),
	}
	heartbeatSample = Heartbeat{ID: kitchenID, Session: session, Seq: 3601, At: at(0), Uptime: Seconds(time.Hour), Epoch: 12, Generation: 4, Run: hubRun}
	viewSample      = DomainView{
		Name: "pi-kitchen", ID: kitchenID, State: DomainIsOnline, Address: "192.168.1.20", Version: "1.0.0",
		OS: "linux", Arch: "arm64", Traits: []string{"compute", "npbar"}, Since: at(-3600),
		Services: []Instance{instanceSample}, Catalog: []string{"npbar", "web"}, Heartbeat: &heartbeatSample,
	}
	deviceSample = Device{
		ID: "a4cf12ef3b70", Name: "Desk lamp", Manufacturer: "Espressif", Model: "nodemcuv2", Version: "2026.10.1", Availability: Online, Area: "Study",
		AnnouncedBy: []string{ByHomeAssistant, ByESPHome},
		Topics: DeviceTopics{
			Availability: []string{"desk-lamp/status"}, State: []string{"desk-lamp/light/lamp/state"}, Command: []string{"desk-lamp/light/lamp/command"},
		},
		Identifiers: []string{"a4cf12ef3b70"}, Connections: []DeviceConnection{{Type: "mac", Address: "a4:cf:12:ef:3b:70"}},
	}
	definitionSample = DefinitionView{Service: "web", Base: "5c0b29f1a4d3", TOML: "[services.web]\nbundle = \"1.4.0\"\nreplicas = 1\n"}
	bundleSample     = Bundle{Version: "1.4.0", Digest: "sha256:" + strings.Repeat("3a", 32), Variants: []BundleVariant{{
		Platform: "linux/arm64", Manifest: "sha256:" + strings.Repeat("9f", 32), Layer: "sha256:" + strings.Repeat("e1", 32), Format: FormatZstd, Content: "sha256:" + strings.Repeat("c4", 32), Size: 48210,
	}}}
	eventSample = Event{At: at(0), Type: ServiceReady, Domain: "pi-kitchen", Service: "web", Message: "web is ready on pi-kitchen after 0.4 s"}
)

// samples holds a payload of every kind of topic, as the bytes that travel.
func samples() map[Kind][]byte {
	return map[Kind][]byte{
		HubAvailability: []byte(Online),
		HubStatus:       Encode(hubSample),
		HubEvent:        Encode(eventSample),
		HubDiscovery:    Encode(Discovery{Changes: 42}),
		HubKeys:         Encode(KeyList{Dominion: homeID, Number: 3, Hubs: []HubKey{{Key: "3f9a", Name: "home"}}, Revoked: []RevokedKey{{Key: "77c0", Use: "user", Name: "lamp", At: 1767225600, Expires: 1798761600}}}),
		HubCertificate:  Encode(HubCertificateView{Key: "3f9a", Certificate: "-----BEGIN CERTIFICATE-----\n…", Authority: "-----BEGIN CERTIFICATE-----\n…"}),

		HubAdoption: Encode(Adoption{
			Window:  JoinWindow{Open: true, Until: at(120), Left: 1},
			Waiting: []WaitingMachine{{Name: "pi-attic", Address: "192.168.1.23", Model: "Raspberry Pi 4 Model B", Key: "9f3a 11c0 77d2 5e0b", Since: at(-60)}},
		}),

		DomainAvailability: []byte(Offline),
		DomainHeartbeat:    Encode(heartbeatSample),
		DomainMetrics: Encode(Metrics{
			At: at(0), Load1: 0.42, MemoryUsed: 412 << 20, MemoryTotal: 1 << 30, DiskFree: 20 << 30, Temperature: ptr(48.3),
			Services: map[string]Usage{"web": {CPU: 0.02, Memory: 11 << 20}},
		}),
		DomainStatus: Encode(Domain{
			ID: kitchenID, Name: "pi-kitchen", Version: "1.0.0", Protocol: Protocol, OS: "linux", Arch: "arm64",
			Address: "192.168.1.20", Addresses: []string{"192.168.1.20", "2001:db8::20"}, Traits: []string{"compute", "npbar"},
			Session: session, Epoch: 12, Generation: 4, Run: hubRun,
			StartedAt: at(-3600), Services: []Instance{instanceSample},
			Catalog: []CatalogRow{{Service: "npbar", Version: "1.0.2"}, {Service: "web", Version: "1.4.0"}},
		}),
		DomainCondition: Encode(Condition{Domain: "pi-kitchen", State: DomainIsLost, Since: at(-20), Problem: true, Reason: "is lost: is it switched on and connected? `forget` it if it is gone for good"}),
		DomainEvent:     Encode(Event{At: at(0), Type: CommandRefused, Domain: "pi-kitchen", Message: "start command of epoch 11 refused: epoch 12 was obeyed before"}),
		DomainServicesSet: Encode(StartCommand{
			Dominion: homeID, Domain: kitchenID, Epoch: 12, Generation: 4, Run: hubRun, At: at(0),
			Timing: Timing{
				Heartbeat: Seconds(time.Second), LostAfter: Seconds(3 * time.Second), FailoverAfter: Seconds(500 * time.Millisecond),
				Isolation: Seconds(10 * time.Second), Settle: Seconds(10 * time.Second),
			},
			Services: map[string]Spec{"web": {
				Revision: "5c0b29f1a4d3", Port: 8080, Environment: map[string]string{"COLOUR": "blue"},
				Restart: RestartPolicy{Policy: RestartAlways, Delay: Seconds(time.Second), MaxDelay: Seconds(time.Minute)},
				Health:  &HealthCheck{HTTP: "/health", Interval: Seconds(5 * time.Second), Timeout: Seconds(time.Second), Failures: 3},

				StartTimeout: Seconds(2 * time.Minute), StopTimeout: Seconds(10 * time.Second),
			}},
		}),
		DomainLease:      Encode(Lease{Epoch: 12, Session: session, Seq: 3601, Seconds: 10}),
		DomainCommand:    Encode(Command{Transaction: asked, Action: ActionLogs, Service: "web", Lines: 20, Session: session, Follow: Seconds(time.Minute), Number: 51539607553}),
		DomainResponse:   Encode(Accept(asked, LogLines{Lines: []LogLine{{At: at(0), Stream: "stdout", Line: "listening on 8080"}}})),
		DomainDrainSet:   []byte(On),
		DomainServiceLog: Encode(LogLine{At: at(0), Stream: "stderr", Line: "GET /favicon.ico: no such file"}),

		ServiceStatus:    Encode(serviceSample),
		ServiceEndpoints: Encode([]Endpoint{{Domain: "pi-kitchen", Address: "192.168.1.20", Port: 8080, Version: "1.4.0", Healthy: true}}),
		ServiceEndpoint:  []byte("192.168.1.20:8080"),
		ServiceMetrics:   Encode(ServiceUsage{CPU: 0.02, Memory: 11 << 20, Instances: 1}),
		ServiceSet:       Encode(Scale{Replicas: ptr(2)}),

		DeviceStatus: Encode(deviceSample),

		Request:  Encode(HubRequest{Transaction: asked, Service: "web"}),
		Response: Encode(Accept(asked, answers()[VerbWhy])),

		ResponseTo: Encode(Accept(asked, answers()[VerbJoin])),
	}
}

// answers holds the data of the answer to each verb that has some.
func answers() map[string]any {
	line := PlanLine{Action: ActionKeep, Service: "web", Domain: "pi-kitchen", Reason: "runs there and npbar needs it"}
	return map[string]any{
		VerbJoin:     Grant{Dominion: homeID, Name: "home", Epoch: 12},
		VerbStatus:   Overview{Hub: hubSample, Domains: []DomainView{viewSample}, Services: []Service{serviceSample}, Bridges: []BridgeView{bridgeSample}, Problems: []string{}},
		VerbDomains:  []DomainView{viewSample},
		VerbServices: []Service{serviceSample},
		VerbDevices: Devices{
			Devices:  []Device{deviceSample},
			Problems: []DeviceProblem{{At: at(0), Topic: "homeassistant/switch/x/config", Message: "its JSON ends too early"}},
		},
		VerbEvents: []Event{eventSample},
		VerbPlan:   []PlanLine{line},
		VerbLogs:   LogLines{Lines: []LogLine{{At: at(0), Stream: "stdout", Line: "listening on 8080"}}},
		VerbWhy: Why{
			Service: "web", State: Running, Reason: "npbar needs it",
			Domains: []WhyLine{
				{Domain: "pi-kitchen", Runs: true, State: Running, Reason: line.Reason},
				{Domain: "laptop", Reason: "one instance is enough, and pi-kitchen has it"},
			},
		},
		VerbApply:      Applied{Services: []DefinitionView{definitionSample}},
		VerbDefinition: definitionSample,
		VerbVersions: []ServiceVersion{
			{Version: "1.4.0", Digest: bundleSample.Digest, At: at(0), By: "anna", Current: true, Base: definitionSample.Base},
			{Version: "1.3.0", Digest: bundleSample.Variants[0].Content, At: at(-86400), Base: "b7f91c22d0aa"},
		},
		VerbRollback:     Applied{Services: []DefinitionView{definitionSample}},
		VerbVersion:      VersionView{Version: "1.0.0", Protocol: Protocol},
		VerbPermitJoin:   JoinWindow{Open: true, Until: at(120), Left: 1},
		VerbToken:        []TokenView{{ID: "3f9a12c0", Use: "domain", UsesLeft: 1, Expires: at(0), UsedBy: []TokenUser{}}},
		VerbCertificates: []CertificateView{{Name: "tv", Use: "user", Key: "3f9a", Issued: at(0), Expires: at(0)}},
		VerbAuthority:    AuthorityView{Key: "3f9a", Expires: at(0), Has: []string{}, Missing: []string{}, Behind: []string{}},
		VerbUser:         []UserView{{Name: "tv", Role: "device", Password: true}},
		VerbForget:       Forgotten{Secrets: []string{"mqtt-password"}},
		VerbSecret:       []SecretView{{Name: "mqtt-password", Changed: at(-3600), Services: []string{"web"}, Domains: []string{"pi-kitchen"}}},
		VerbClients:      []ClientView{{Client: "kitchen-lamp", User: "tv", Address: "192.168.1.40:50123", Listener: "mqtt", Protocol: "3.1.1", Connected: true, Since: at(-60), Subscriptions: 3, Dropped: 2}},
		VerbTrace:        Traced{Topic: "dominion/response/trace/ctl-1f2e", Seconds: Seconds(time.Minute)},
		VerbAccess:       Access{User: "tv", Role: "device", Action: "publish", Topic: "cmnd/door/POWER", By: "rule no-tv: deny tv publish and subscribe to cmnd/#"},
	}
}

// microSample is all that a microcontroller says of itself.
var microSample = json.RawMessage(`{"name":"desk-lamp","micro":true,"address":"192.168.1.40","traits":["light"],"services":[{"service":"desk-light","state":"running","port":80}]}`)

var bridgeSample = BridgeView{
	Name: "attic", Connected: true, Since: at(-300), Refused: 3, Dropped: 12,
	LastRefusal: &BridgeRefusal{At: at(-60), Direction: "out", Topic: "homeassistant/switch/x/config", Reason: "not authorized (0x87)", Size: 412},
	Problems:    []string{"3 messages were refused, the last one out to homeassistant/switch/x/config: not authorized (0x87)"},
}
