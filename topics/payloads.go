package topics

import (
	"encoding/json"
	"fmt"
)

// The struct tag `doc` of a field is its line in docs/protocol.md.

// Hub is the payload of hub/status.
type Hub struct {
	ID        string       `json:"id" type:"id" doc:"UUID of the dominion, kept in its data_dir"`
	Name      string       `json:"name" type:"name" doc:"name of the dominion"`
	Version   string       `json:"version" type:"build" doc:"version of the program"`
	Protocol  string       `json:"protocol" type:"protocol" doc:"version of this contract, major.minor"`
	Epoch     uint64       `json:"epoch" doc:"raised at each start of the hub"`
	Run       string       `json:"run,omitempty" type:"id" doc:"random for each run of the hub: a domain that has a key joins again when it differs from that of its grant"`
	StartedAt Time         `json:"started_at" doc:"when this run began"`
	Ready     bool         `json:"ready" doc:"false while it waits for the known domains after a start"`
	Domains   DomainCount  `json:"domains" doc:"how many domains are in which state"`
	Services  ServiceCount `json:"services" doc:"instances wanted and running"`
	Registry  []string     `json:"registry,omitempty" type:"url" doc:"addresses of the registry of bundles, in the order in which they are tried; absent: there is none"`
	Control   string       `json:"control,omitempty" type:"text" doc:"path of the control socket on the hub's machine, for private requests; absent: there is none"`
	Problem   string       `json:"problem,omitempty" type:"text" doc:"what of the hub itself needs a human, in words; absent: nothing"`

	CertificateExpires Time   `json:"certificate_expires,omitzero" doc:"until when the certificates of broker and HTTPS hold: the earlier of the two; absent without TLS"`
	Key                string `json:"key,omitempty" type:"id" doc:"SHA-256 of the key of the hub that signed it; absent: the hub has no key"`
}

// KeyList is the payload of hub/keys, retained and signed by the authority: which hub keys
// count, and which keys are revoked. A list with a greater number replaces one with a lower.
type KeyList struct {
	Dominion string       `json:"dominion" type:"id" doc:"id of the dominion"`
	Number   uint64       `json:"number" doc:"grows with each change; the greatest counts"`
	Hubs     []HubKey     `json:"hubs" doc:"the hub keys that count: no other one is obeyed"`
	Revoked  []RevokedKey `json:"revoked" doc:"the keys that are not accepted any more"`
	// Next is the certificate of the authority that will replace the signing one.
	Next []byte `json:"next,omitempty" doc:"base64 of the certificate (DER) of the authority that replaces this one"`
	// Chain leads from the signer's certificate up to the root, without it.
	Chain [][]byte `json:"chain,omitempty" doc:"base64 of the certificates (DER) between the signer and the root; absent: the root signed"`
}

// HubKey is a hub's key that counts.
type HubKey struct {
	Key  string `json:"key" type:"id" doc:"SHA-256 of the key"`
	Name string `json:"name,omitempty" type:"line" doc:"whose it is, for people"`
}

// RevokedKey is a key that is not accepted any more.
type RevokedKey struct {
	Key  string         `json:"key" type:"id" doc:"SHA-256 of the key"`
	Use  CertificateUse `json:"use,omitempty" type:"word" doc:"hub, domain, user, service or authority"`
	Name string         `json:"name,omitempty" type:"line" doc:"whose it was, for people"`
	At   int64          `json:"at,omitempty" doc:"when it was revoked, in seconds of Unix time"`
	// Expires is when its last certificate ends: then the entry can go, unless it is of a hub.
	Expires int64 `json:"expires,omitempty" doc:"when its certificate ends, in seconds of Unix time"`
}

// CertificateUse is what a certificate is for.
type CertificateUse string

// HubCertificateView is the payload of hub/certificate.
type HubCertificateView struct {
	Key         string `json:"key" type:"line" doc:"SHA-256 of the hub's public key, in hexadecimal"`
	Certificate string `json:"certificate" type:"text" doc:"the hub's certificate and those between it and the authority's, PEM"`
	Authority   string `json:"authority" type:"text" doc:"the authority's certificate, PEM"`
}

// Adoption is the payload of hub/adoption: which machines wait for adoption, and whether the
// window is open.
type Adoption struct {
	Window  JoinWindow       `json:"window" doc:"whether domains are adopted without a code"`
	Waiting []WaitingMachine `json:"waiting" doc:"the machines that wait, by name"`
}

// WaitingMachine is a machine that waits for adoption, as it says itself: its code is the proof.
type WaitingMachine struct {
	Name    string `json:"name" type:"name" doc:"of the machine"`
	Address string `json:"address,omitempty" type:"line" doc:"where it asks from"`
	Model   string `json:"model,omitempty" type:"line" doc:"of the machine"`
	Key     string `json:"key" type:"line" doc:"the first 16 digits of SHA-256 of its key, grouped as the machine itself shows them; a label, not a proof"`
	Since   Time   `json:"since" doc:"since when it asks"`
}

// DomainCount counts domains by state; offline ones include the lost.
type DomainCount struct {
	Online  int `json:"online" doc:"joined and beating"`
	Offline int `json:"offline" doc:"known, but not online"`
	Lonely  int `json:"lonely" doc:"seen by zeroconf, not joined"`
}

// ServiceCount counts instances of all services.
type ServiceCount struct {
	Wanted  int `json:"wanted" doc:"instances that should run; those that have finished are left out"`
	Running int `json:"running" doc:"instances that run and are ready"`
}

// Event is the payload of hub/event and domain/<domain>/event.
type Event struct {
	At      Time      `json:"at" doc:"when it happened"`
	Type    EventType `json:"type" type:"word" doc:"one of the closed list"`
	Domain  string    `json:"domain,omitempty" type:"name" doc:"the domain it concerns"`
	Service string    `json:"service,omitempty" type:"name" doc:"the service it concerns"`
	Message string    `json:"message" type:"text" doc:"what happened, in words"`
	Session string    `json:"session,omitempty" type:"id" doc:"at domain/<domain>/event, of a domain that has a key: as in its heartbeats"`
	Seq     uint64    `json:"seq,omitempty" doc:"beside session: counts the events of this session from 1; one that is not greater is replayed"`
}

// Discovery is the payload of hub/discovery.
type Discovery struct {
	Changes uint64 `json:"changes" doc:"counts the changes to Home Assistant's device configs, over all runs of the hub"`
}

// Heartbeat is the payload of domain/<domain>/heartbeat.
type Heartbeat struct {
	ID         string  `json:"id" type:"id" doc:"UUID of the domain, kept in its data_dir"`
	Session    string  `json:"session" type:"id" doc:"random for each run of the agent"`
	Seq        uint64  `json:"seq" doc:"counts the heartbeats of this session from 1"`
	At         Time    `json:"at" doc:"the agent's clock"`
	Uptime     Seconds `json:"uptime" doc:"seconds since the agent started"`
	Epoch      uint64  `json:"epoch" doc:"of the last start command it took"`
	Generation uint64  `json:"generation" doc:"of the last start command it took"`
	Run        string  `json:"run,omitempty" type:"id" doc:"of the last start command it took"`
	Status     uint64  `json:"status,omitempty" doc:"seq of the last status of this session; absent: it does not count them"`
	Lease      Seconds `json:"lease,omitempty" doc:"seconds left of its lease as it was sent; absent: it has none"`
}

// Metrics is the payload of domain/<domain>/metrics.
type Metrics struct {
	At          Time             `json:"at" doc:"the agent's clock"`
	Seq         uint64           `json:"seq,omitempty" doc:"counts the metrics of this session from 1; absent: it does not count them"`
	Load1       float64          `json:"load1" doc:"load average of one minute"`
	MemoryUsed  uint64           `json:"memory_used" doc:"bytes that programs use"`
	MemoryTotal uint64           `json:"memory_total" doc:"bytes"`
	Cores       int              `json:"cores" doc:"processors of the machine"`
	DiskFree    uint64           `json:"disk_free" doc:"bytes free for the agent's data_dir"`
	Temperature *float64         `json:"temperature,omitempty" doc:"°C of the processor, where the machine tells"`
	Services    map[string]Usage `json:"services" key:"name" doc:"by service"`
}

// Usage is what the processes of one instance use.
type Usage struct {
	CPU    float64 `json:"cpu" doc:"cores used since the last metrics, or since it was started; 1.0 is one whole core"`
	Memory uint64  `json:"memory" doc:"resident bytes of its processes"`
}

// ServiceUsage is the payload of service/<service>/metrics.
type ServiceUsage struct {
	CPU       float64 `json:"cpu" doc:"cores that its instances use together; 1.0 is one whole core"`
	Memory    uint64  `json:"memory" doc:"resident bytes of all their processes"`
	Instances int     `json:"instances" doc:"how many instances these figures are of"`
}

// Domain is the payload of domain/<domain>/status. A microdomain sends name,
// micro, traits and services alone.
type Domain struct {
	ID         string       `json:"id" type:"id" doc:"UUID of the domain"`
	Name       string       `json:"name" type:"name" doc:"name of the domain"`
	Micro      bool         `json:"micro,omitempty" doc:"true for a microcontroller that is its own one service; it is never sent a start command"`
	Version    string       `json:"version" type:"build" doc:"version of the agent"`
	Protocol   string       `json:"protocol" type:"protocol" doc:"version of this contract"`
	OS         string       `json:"os" type:"word" doc:"as Go names it: linux"`
	Arch       string       `json:"arch" type:"word" doc:"as Go names it: amd64, arm64, arm"`
	Platform   string       `json:"platform,omitempty" type:"platform" doc:"which programs run on it, as container images name it: linux/amd64, linux/arm64, linux/arm/v6; absent: its agent is older"`
	Accept     string       `json:"accept,omitempty" type:"word" doc:"how far it trusts its dominion: local, environment, deploy or upgrade; absent: its agent is older"`
	Address    string       `json:"address" type:"address" doc:"where its services are reached"`
	Addresses  []string     `json:"addresses" type:"address" doc:"all its addresses"`
	Traits     []string     `json:"traits" type:"name" doc:"what it offers"`
	Session    string       `json:"session,omitempty" type:"id" doc:"as in its heartbeats"`
	Seq        uint64       `json:"seq,omitempty" doc:"counts the statuses of this session from 1. A lower one that comes late is old; until the one that a heartbeat names is there, the domain is not taken for online"`
	Epoch      uint64       `json:"epoch,omitempty" doc:"of the last start command it took; what is said below is of after that"`
	Generation uint64       `json:"generation,omitempty" doc:"of the last start command it took"`
	Run        string       `json:"run,omitempty" type:"id" doc:"of the last start command it took"`
	StartedAt  Time         `json:"started_at,omitzero" doc:"when this run of the agent began"`
	Draining   bool         `json:"draining" doc:"true: it is given nothing, and what may run elsewhere leaves"`
	Services   []Instance   `json:"services" doc:"what runs or should run on it"`
	Catalog    []CatalogRow `json:"catalog" doc:"the services on its disk"`
	Problems   []string     `json:"problems,omitempty" type:"text" doc:"what is wrong with it and what to do: a command of a trait that cannot run, a trait that comes and goes"`
}

// Condition is the payload of domain/<domain>/condition.
type Condition struct {
	Domain  string      `json:"domain" type:"name" doc:"name of the domain"`
	State   DomainState `json:"state" type:"word" doc:"online, offline or lost"`
	Since   Time        `json:"since,omitzero" doc:"when it came into this state; absent: in an earlier run of the hub"`
	Problem bool        `json:"problem" doc:"whether it needs a human"`
	Reason  string      `json:"reason" type:"text" doc:"what is wrong and what to do; empty: nothing is wrong"`
}

// Instance is one service on one domain, as its agent sees it.
type Instance struct {
	Service  string `json:"service" type:"name" doc:"name of the service"`
	State    State  `json:"state" type:"word" doc:"one of the closed list"`
	Health   Health `json:"health" type:"word" doc:"one of the closed list"`
	Version  string `json:"version" type:"version" doc:"of the service on the domain's disk when it started"`
	Revision string `json:"revision" type:"id" doc:"of the start command's entry that runs"`
	Address  string `json:"address,omitempty" type:"address" doc:"where it is reached"`
	Port     int    `json:"port,omitempty" type:"port" doc:"TCP port it was given"`
	PID      int    `json:"pid,omitempty" doc:"leader of its process group"`
	Restarts int    `json:"restarts" doc:"how often it was started again since it was first wanted"`
	Since    Time   `json:"since,omitzero" doc:"when it came into this state"`
	ExitCode *int   `json:"exit_code,omitempty" doc:"of its last end; none for a signal or an adopted process"`
	NextTry  Time   `json:"next_try,omitzero" doc:"backoff, failed: when it is started again by itself"`
	Progress int    `json:"progress,omitempty" doc:"percent of its bundle that is there, while it is pulled: the state is fetching, or what ran before runs on"`
	Rejected string `json:"rejected,omitempty" type:"id" doc:"revision of the start command's entry that the domain does not run: its bundle could not be built, or was not healthy in time while no hub was heard; the former one runs"`
	Message  string `json:"message,omitempty" type:"text" doc:"what went wrong and what happens next; it holds no span of time that runs: next_try"`
}

// CatalogRow is one service on a domain's disk.
type CatalogRow struct {
	Service string `json:"service" type:"name" doc:"name of its directory"`
	Version string `json:"version" type:"version" doc:"from its service.toml; where that has none, 0.0.0-0+content. and a hash of its code"`

	ReleaseURL string `json:"release_url,omitempty" type:"url" doc:"from its service.toml: where the release notes of this version are"`
	Summary    string `json:"release_summary,omitempty" type:"text" doc:"from its service.toml: the release notes of this version, in short"`
}

// StartCommand is the payload of domain/<domain>/services/set.
type StartCommand struct {
	Dominion   string          `json:"dominion" type:"id" doc:"id of the dominion that orders"`
	Domain     string          `json:"domain" type:"id" doc:"id of the domain that is meant"`
	Epoch      uint64          `json:"epoch" doc:"of the hub's run"`
	Generation uint64          `json:"generation" doc:"raised with each command to this domain within an epoch"`
	Run        string          `json:"run,omitempty" type:"id" doc:"random for each run of the hub: one that was restored from a backup uses an epoch again. A domain that has a key obeys the run alone that granted its join"`
	At         Time            `json:"at" doc:"the hub's clock; never compared"`
	Timing     Timing          `json:"timing" doc:"the dominion's timing"`
	Key        string          `json:"key,omitempty" type:"id" doc:"SHA-256 of the key of the hub that signed it; only for a domain that has a key"`
	Services   map[string]Spec `json:"services" key:"name" doc:"by service: all that should run; what is absent is stopped"`
}

// SignedHead is what a domain compares of a signed order before it verifies the signature.
type SignedHead struct {
	Key         string `json:"key" type:"id"`
	Transaction string `json:"transaction" type:"text"`
	Session     string `json:"session" type:"id"`
	Dominion    string `json:"dominion" type:"id"`
	Domain      string `json:"domain" type:"id"`
	Epoch       uint64 `json:"epoch"`
	Generation  uint64 `json:"generation"`
	Run         string `json:"run" type:"id"`
	Number      uint64 `json:"number"`
}

// SenderHead is what a hub compares of a signed message of a domain before it verifies the
// signature.
type SenderHead struct {
	ID          string `json:"id" type:"id"`
	Session     string `json:"session" type:"id"`
	Seq         uint64 `json:"seq"`
	Number      uint64 `json:"number"`
	Transaction string `json:"transaction" type:"text"`
}

// Timing is how long things take in a dominion. The defaults are in config.
type Timing struct {
	Heartbeat     Seconds `json:"heartbeat" doc:"seconds between heartbeats"`
	LostAfter     Seconds `json:"lost_after" doc:"seconds of silence after which a domain is lost"`
	FailoverAfter Seconds `json:"failover_after" doc:"seconds lost after which its services move"`
	Isolation     Seconds `json:"isolation" doc:"seconds without the hub after which a domain is lonely"`
	Settle        Seconds `json:"settle" doc:"seconds the hub waits after its start for the known domains"`
}

// Spec is one service of a start command.
type Spec struct {
	Revision        string            `json:"revision" type:"id" doc:"changes with what needs a restart, and with nothing else"`
	Target          string            `json:"target" type:"target" doc:"make target; empty: the Makefile's first"`
	Port            int               `json:"port" type:"port" doc:"fixed TCP port; 0: the agent chooses one"`
	Environment     map[string]string `json:"environment" key:"variable" type:"value" doc:"added to the process's environment; \"secret:NAME\" stands for a secret"`
	Secrets         map[string]string `json:"secrets,omitempty" key:"id" type:"sealed" doc:"by name: the value of each secret that a variable of environment stands for (\"secret:NAME\"), sealed with age to this domain; dominion, domain, service and name are inside. What stands for the value in the revision is an HMAC by a key of the hub"`
	EnvironmentFile string            `json:"environment_file,omitempty" type:"path" doc:"file on the domain with KEY=VALUE lines"`
	Dependencies    map[string]string `json:"dependencies,omitempty" key:"name" type:"endpoint" doc:"address:port of each dependency, for DEPENDENCY_<NAME>; not part of the revision"`
	Versions        map[string]string `json:"versions,omitempty" key:"name" type:"range" doc:"by service that runs and needs this one: the range of versions that it needs; what is on the disk is not started where its version is out of one of them; not part of the revision"`
	Restart         RestartPolicy     `json:"restart" doc:"what happens when it ends"`
	Health          *HealthCheck      `json:"health" doc:"how to tell that it is well; {}: it ran for 1 s"`
	StartTimeout    Seconds           `json:"start_timeout" doc:"seconds until ready, or it counts as failed"`
	StopTimeout     Seconds           `json:"stop_timeout" doc:"seconds from SIGTERM to SIGKILL"`
	Exclusive       bool              `json:"exclusive" doc:"never two at once: it runs only while a lease of the hub holds"`
	Bundle          *Bundle           `json:"bundle,omitempty" doc:"its program, in the hub's registry; absent: it is in the domain's services_dir. Where it has a service of the name there too, that one runs"`
	Former          *Bundle           `json:"former,omitempty" doc:"the bundle that was healthy last, where it is another one: the domain keeps it, and goes back to it where bundle does not get healthy and no hub is heard; not part of the revision"`
	Oneshot         bool              `json:"oneshot,omitempty" doc:"done once it has finished with exit code 0, also over a restart of the machine"`
}

// RestartPolicy is what happens when a service ends.
type RestartPolicy struct {
	Policy   string  `json:"policy" type:"word" doc:"always, on-failure or never"`
	Delay    Seconds `json:"delay" doc:"seconds until the first restart; it doubles"`
	MaxDelay Seconds `json:"max_delay" doc:"seconds at the most"`
}

// The restart policies.
const (
	RestartAlways    = "always"
	RestartOnFailure = "on-failure"
	RestartNever     = "never"
)

// HealthCheck is how a service is checked for being healthy: one of http, tcp, mqtt
// and notify; a command comes from the service's own service.toml alone.
type HealthCheck struct {
	HTTP     string  `json:"http,omitempty" type:"line" doc:"path to GET on its port; 2xx and 3xx are healthy"`
	TCP      bool    `json:"tcp,omitempty" doc:"its port accepts a connection"`
	MQTT     string  `json:"mqtt,omitempty" type:"line" doc:"a topic that says how it is; <domain> in it stands for the domain's name"`
	Payload  string  `json:"payload,omitempty" type:"text" doc:"mqtt: what the topic says when it is well"`
	Notify   bool    `json:"notify,omitempty" doc:"it says READY=1 to NOTIFY_SOCKET (sd_notify)"`
	Watchdog Seconds `json:"watchdog,omitempty" doc:"notify: seconds within which it says WATCHDOG=1, or it is unhealthy and restarted; 0: it need not"`
	Interval Seconds `json:"interval,omitempty" doc:"seconds between checks"`
	Timeout  Seconds `json:"timeout,omitempty" doc:"seconds one check may take"`
	Failures int     `json:"failures,omitempty" doc:"failed checks in a row that make it unhealthy"`
}

// Lease is the payload of domain/<domain>/lease.
type Lease struct {
	Epoch   uint64  `json:"epoch" doc:"of the hub's run"`
	Session string  `json:"session" type:"id" doc:"of the heartbeat that it answers"`
	Seq     uint64  `json:"seq" doc:"of the heartbeat that it answers"`
	Seconds float64 `json:"seconds" doc:"how long it holds, from the sending of that heartbeat"`
}

// Command is the payload of domain/<domain>/command.
type Command struct {
	Transaction string  `json:"transaction" type:"text" doc:"repeated in the response"`
	Action      string  `json:"action" type:"word" doc:"restart, logs, report, resync, drain or undrain"`
	Service     string  `json:"service,omitempty" type:"name" doc:"the service that is meant"`
	Lines       int     `json:"lines,omitempty" doc:"logs: how many of the last lines, 100 if absent"`
	Session     string  `json:"session,omitempty" type:"id" doc:"of the run of the agent that is meant; another run does not obey. A domain without a key needs it for resync alone"`
	Follow      Seconds `json:"follow,omitempty" doc:"logs: stream new lines for so many seconds unless renewed"`
	Number      uint64  `json:"number,omitempty" doc:"grows with each command to a session; only for a domain that has a key"`
	Key         string  `json:"key,omitempty" type:"id" doc:"SHA-256 of the key of the hub that signed it; only for a domain that has a key"`
}

// The actions of a Command.
const (
	ActionRestart = "restart"
	ActionLogs    = "logs"
	ActionResync  = "resync" // join again, and obey the hub from the epoch that it grants
	ActionReport  = "report" // say availability, status and metrics again: somebody was born who listens to them
	ActionDrain   = "drain"
	ActionUndrain = "undrain"
)

// Reply answers a Command or an Ask.
type Reply struct {
	Transaction string          `json:"transaction" type:"text" doc:"of the question"`
	Status      string          `json:"status" type:"word" doc:"ok or error"`
	Error       string          `json:"error,omitempty" type:"text" doc:"what went wrong and what to do"`
	Data        json.RawMessage `json:"data,omitempty" doc:"what was asked for"`
}

// The statuses of a Reply.
const (
	StatusOK    = "ok"
	StatusError = "error"
)

// Accept answers a transaction with data, which may be nil.
func Accept(transaction string, data any) Reply {
	r := Reply{Transaction: transaction, Status: StatusOK}
	if data != nil {
		r.Data = Encode(data)
	}
	return r
}

// NotAdoptedPrefix begins the error of a join of a domain that has a key, and that the hub does not
// know: such a one shows its certificate, as an applicant.
const NotAdoptedPrefix = "not adopted: "

// WaitPrefix begins the error of a request to adopt that comes too soon after a wrong code. How long
// the asker has to wait follows, as "1.5s".
const WaitPrefix = "too many wrong codes: wait "

// DeniedPrefix begins the error of an answer that the broker gives itself, to a
// request or a command that the asker's role or a rule does not allow.
const DeniedPrefix = "the broker refused "

// Denied is that error: of a publish to a topic by a user; "": one without a name.
func Denied(topic, user string) error {
	if user == "" {
		return fmt.Errorf(DeniedPrefix+"%s of somebody without a name", topic)
	}
	return fmt.Errorf(DeniedPrefix+"%s of user %.80s", topic, user)
}

// Refuse answers a transaction with an error.
func Refuse(transaction string, err error) Reply {
	return Reply{Transaction: transaction, Status: StatusError, Error: err.Error()}
}

// RefusedAnswer returns the answer to a request or command that a broker refuses: an
// error at the topic where its publisher expects the answer. ok is false if the message
// is neither, or has no transaction.
func (t Tree) RefusedAnswer(topic string, payload []byte, reason error) (answer Message, ok bool) {
	at, ours := t.Parse(topic)
	if !ours {
		return Message{}, false
	}
	var to Address
	switch at.Kind {
	case Request:
		to = Address{Kind: Response, Verb: at.Verb}
		if ask, err := Decode[HubRequest](topic, payload); err == nil && ask.Response != "" {
			if address, ours := t.Parse(ask.Response); ours && address.Kind == ResponseTo && address.Verb == at.Verb {
				to = address
			}
		}
	case DomainCommand:
		to = Address{Kind: DomainResponse, Domain: at.Domain}
	default:
		return Message{}, false
	}
	transaction := TransactionOf(payload)
	if transaction == "" {
		return Message{}, false
	}
	return t.Message(to, Encode(Refuse(transaction, reason))), true
}

// LogLine is the payload of domain/<domain>/service/<service>/log.
type LogLine struct {
	At     Time   `json:"at,omitzero" doc:"when the agent saw it; absent where it did not watch"`
	Stream string `json:"stream" type:"word" doc:"stdout or stderr"`
	Line   string `json:"line" type:"text" doc:"without the line's end; terminal escapes are removed"`
}

// Service is the payload of service/<service>/status.
type Service struct {
	Service   string            `json:"service" type:"name" doc:"name of the service"`
	State     State             `json:"state" type:"word" doc:"of the service as a whole: running when all that is wanted runs, else what hinders it most: failed, backoff, starting, finished, stopping, pending; off, it is stopping until nothing is left, then stopped"`
	Switch    string            `json:"switch" type:"word" doc:"ON or OFF: whether it is wanted"`
	Wanted    int               `json:"wanted" doc:"instances that should run"`
	Replicas  int               `json:"replicas,omitempty" doc:"on how many domains it is to run while it is wanted; absent: on each one that can"`
	Running   int               `json:"running" doc:"instances that run and are ready"`
	Healthy   int               `json:"healthy" doc:"instances that are healthy"`
	Reason    string            `json:"reason" type:"text" doc:"why it is so, in words"`
	Problem   string            `json:"problem,omitempty" type:"text" doc:"what is wrong with it: it failed or crashed and has not been well for 5 minutes since, an instance is unhealthy, it has been pending for 5 seconds, or an update did not get healthy; absent: it is well"`
	LastError *ServiceError     `json:"last_error,omitempty" doc:"its last crash or failure, also after it has been well again; absent: none that the hub remembers"`
	Link      string            `json:"link,omitempty" type:"url" doc:"its own web page, where others can reach it: that of its best endpoint, or of the last one while it has none. It has a page where its health check is http, or its port is 80 or 443"`
	Version   string            `json:"version,omitempty" type:"version" doc:"of the first instance"`
	Update    ServiceUpdate     `json:"update" doc:"how a changed definition or a new version reaches the instances"`
	Instances []ServiceInstance `json:"instances" doc:"those that are neither stopped, finished nor lost"`
}

// ServiceUpdate is how a service changes. Its keys are those of Home
// Assistant's update entity where that has one.
type ServiceUpdate struct {
	Installed  string `json:"installed_version" type:"version" doc:"the oldest version that an instance runs; empty: none or unknown"`
	Latest     string `json:"latest_version" type:"version" doc:"the newest version in the catalogs of the domains that may run it; the installed one where no instance has a newer one on its own domain: waits says why then; empty: unknown"`
	InProgress bool   `json:"in_progress" doc:"a changed definition or a new version is on its way to the instances"`
	Percentage *int   `json:"update_percentage,omitempty" doc:"how many of them have it, in percent; absent while nothing is on its way"`
	Updated    int    `json:"updated,omitempty" doc:"instances that have what is on its way"`
	Total      int    `json:"total,omitempty" doc:"instances that are to have it"`
	Waits      string `json:"waits,omitempty" type:"text" doc:"what it waits for, or why a newer version cannot be reached, in words"`
	Problem    string `json:"problem,omitempty" type:"text" doc:"what did not get healthy or has to wait, and what that means"`
	ReleaseURL string `json:"release_url,omitempty" type:"url" doc:"of the newest version: where its release notes are"`
	Summary    string `json:"release_summary,omitempty" type:"text" doc:"of the newest version: its release notes, in short"`
}

// ServiceError is a crash or a failure of one instance of a service.
type ServiceError struct {
	At      Time   `json:"at" doc:"when the hub was told of it, by the hub's clock"`
	Domain  string `json:"domain" type:"name" doc:"name of the domain"`
	Message string `json:"message" type:"text" doc:"what happened, in words"`
}

// ServiceInstance is one instance of a service, as the hub sees it.
type ServiceInstance struct {
	Domain  string `json:"domain" type:"name" doc:"name of the domain"`
	State   State  `json:"state" type:"word" doc:"one of the closed list"`
	Health  Health `json:"health" type:"word" doc:"one of the closed list"`
	Version string `json:"version" type:"version" doc:"of the service"`
	Address string `json:"address" type:"address" doc:"where it is reached"`
	Port    int    `json:"port" type:"port" doc:"TCP port"`
	NextTry Time   `json:"next_try,omitzero" doc:"backoff, failed: when it is started again by itself"`
	// Progress is of the next bundle where an instance runs.
	Progress int `json:"progress,omitempty" doc:"percent of its bundle that is there, while it is pulled"`
}

// Endpoint is one element of service/<service>/endpoints.
type Endpoint struct {
	Domain  string `json:"domain" type:"name" doc:"name of the domain"`
	Address string `json:"address" type:"address" doc:"IP address"`
	Port    int    `json:"port" type:"port" doc:"TCP port"`
	Version string `json:"version" type:"version" doc:"of the service"`
	Healthy bool   `json:"healthy" doc:"whether its health check says so"`
}

// Scale is the JSON form of the payload of service/<service>/set.
type Scale struct {
	Replicas *int `json:"replicas" doc:"on how many domains it runs; 0: as the configuration says"`
}

// KeySet has public keys by the names of their owners.
type KeySet map[string][]byte

// HubRequest is the payload of request/<verb>.
type HubRequest struct {
	Transaction string   `json:"transaction" type:"text" doc:"repeated in the response"`
	Service     string   `json:"service,omitempty" type:"name" doc:"start, stop, restart, scale, reset, update, why, logs"`
	Domain      string   `json:"domain,omitempty" type:"name" doc:"restart, drain, undrain, forget, adopt, resync, why, logs"`
	Replicas    *int     `json:"replicas,omitempty" doc:"scale"`
	Limit       int      `json:"limit,omitempty" doc:"events: how many of the last"`
	Lines       int      `json:"lines,omitempty" doc:"logs: how many of the last lines, 100 if absent"`
	Follow      Seconds  `json:"follow,omitempty" doc:"logs: stream new lines for so many seconds unless renewed"`
	User        string   `json:"user,omitempty" type:"line" doc:"access: the user that is meant"`
	Client      string   `json:"client,omitempty" type:"line" doc:"access, clients: the client identifier that is meant"`
	Action      string   `json:"action,omitempty" type:"word" doc:"access: publish, subscribe or deliver; user: list, add, remove, role or password; clients: list, kick or forget; certificates: list, issue or revoke; authority: rotate, export or offline; identity: require; permit_join: open or close; token: list, create or remove; secret: list, set or remove"`
	Role        string   `json:"role,omitempty" type:"word" doc:"user: admin, reader, device or domain"`
	Hash        string   `json:"password_hash,omitempty" type:"hash" doc:"user: bcrypt hash of the password"`
	Certificate bool     `json:"certificate,omitempty" doc:"user: a certificate with its name will do"`
	Request     string   `json:"certificate_request,omitempty" type:"text" doc:"certificates: PKCS #10 in PEM; its key alone is used"`
	Key         string   `json:"key,omitempty" type:"line" doc:"certificates, revoke: the key, as its SHA-256 or the 16 characters that certificates shows; authority, offline: SHA-256 of the authority's"`
	Compromised bool     `json:"compromised,omitempty" doc:"authority, rotate: the present one ends at once"`
	Authority   string   `json:"authority,omitempty" type:"id" doc:"join: SHA-256 of the key of the newest authority that the domain has stored; without a transaction it joins nothing, and is not answered"`
	KeyList     string   `json:"key_list,omitempty" type:"text" doc:"join: joins nothing, shows a hub that published an older key list the one that the domain has; not answered; 262144 bytes at most"`
	Days        int      `json:"days,omitempty" doc:"certificates: how long it is valid; absent: as [identity] lifetime"`
	Secret      string   `json:"secret,omitempty" type:"id" doc:"secret: name of the one that is set or removed"`
	Value       string   `json:"value,omitempty" type:"value" doc:"secret: what it is set to, 32768 bytes at most"`
	Topic       string   `json:"topic,omitempty" type:"line" doc:"access: a topic, or a filter to subscribe to; trace: a client identifier or a topic filter"`
	Without     string   `json:"without,omitempty" type:"name" doc:"plan: as if this domain were lost for good"`
	Drain       string   `json:"drain,omitempty" type:"name" doc:"plan: as if this domain were draining"`
	Rebalance   bool     `json:"rebalance,omitempty" doc:"plan: as if the services were spread anew"`
	TOML        string   `json:"toml,omitempty" type:"value" doc:"apply: one or more [services.NAME] as in dominion.toml, with bundle = \"VERSION\" for one in the registry; 65536 bytes at most"`
	Base        string   `json:"base,omitempty" type:"id" doc:"apply: revision of the definition that was edited; another one is refused"`
	Plan        bool     `json:"plan,omitempty" doc:"apply: change nothing, answer with what would be done"`
	Version     string   `json:"version,omitempty" type:"version" doc:"rollback: the version to go back to; absent: the one before"`
	Config      string   `json:"config,omitempty" type:"text" doc:"plan: as if this were dominion.toml; of it topic_prefix, timing and services count; 262144 bytes at most"`
	After       string   `json:"after,omitempty" type:"name" doc:"devices: go on after the one of this id"`
	Response    string   `json:"response_topic,omitempty" type:"line" doc:"where to answer, for who speaks MQTT 3.1.1: response/<verb>/<domain> below the prefix, with any name for <domain>; without it, at response/<verb>"`
	ID          string   `json:"id,omitempty" type:"id" doc:"join: UUID of the domain"`
	Name        string   `json:"name,omitempty" type:"name" doc:"join: name of the domain; token: the only one that it lets join; trace: any name, for the topic of the lines"`
	Session     string   `json:"session,omitempty" type:"id" doc:"join: of this run of the agent"`
	Protocol    string   `json:"protocol,omitempty" type:"protocol" doc:"join: version of this contract"`
	Address     string   `json:"address,omitempty" type:"address" doc:"join: of the agent, to tell two machines of one name apart"`
	Word        string   `json:"word,omitempty" type:"id" doc:"join: the last word that the hub gave this domain; a copy of its disk shows an older one"`
	Number      uint64   `json:"number,omitempty" doc:"join: counts the joins of this session from 1; only of a domain that has a key: one that is not greater is replayed"`
	Ephemeral   []byte   `json:"ephemeral,omitempty" doc:"join: base64 of a key for this join alone, an uncompressed point of P-256: the keys of MACs are derived by it"`
	Last        string   `json:"last,omitempty" type:"text" doc:"join: the last start command that the domain obeyed, as the hub signed it; 524288 bytes at most. A hub that was restored from a backup goes above its epoch"`
	Confirm     string   `json:"confirm,omitempty" type:"id" doc:"join: joins nothing, says that the domain has stored this word; not answered"`
	Renew       bool     `json:"renew,omitempty" doc:"join: joins nothing, asks for a new certificate of the domain's key"`
	ServiceKeys KeySet   `json:"service_keys,omitempty" key:"name" doc:"join: joins nothing, asks for certificates of services of this domain; the public key of each (DER of a SubjectPublicKeyInfo, P-256); 64 at most"`
	Certified   []string `json:"certified,omitempty" type:"line" doc:"join: SHA-256 of the keys of its services that have a certificate, in hexadecimal, 128 at most; where the hub has no record of one, its answer has renew"`
	Code        string   `json:"code,omitempty" type:"line" doc:"adopt: the code that the machine shows"`
	Replace     bool     `json:"replace,omitempty" doc:"adopt: also if the name belongs to another key, which is revoked"`
	Duration    Seconds  `json:"duration,omitzero" doc:"permit_join, token: for how long"`
	Count       int      `json:"count,omitempty" doc:"permit_join: how many domains; token: how many uses"`
	Use         string   `json:"use,omitempty" type:"word" doc:"token: domain or hub"`
	Token       string   `json:"token,omitempty" type:"word" doc:"token: id of the one to remove"`
}
