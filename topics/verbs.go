package topics

import "sync"

// The verbs of request/<verb>.
const (
	VerbJoin         = "join"
	VerbStatus       = "status"
	VerbDomains      = "domains"
	VerbServices     = "services"
	VerbDevices      = "devices"
	VerbStart        = "start"
	VerbStop         = "stop"
	VerbRestart      = "restart"
	VerbScale        = "scale"
	VerbDrain        = "drain"
	VerbUndrain      = "undrain"
	VerbForget       = "forget"
	VerbAdopt        = "adopt"
	VerbPermitJoin   = "permit_join"
	VerbToken        = "token"
	VerbEvents       = "events"
	VerbPlan         = "plan"
	VerbWhy          = "why"
	VerbVersion      = "version"
	VerbUpdate       = "update"
	VerbAccess       = "access"
	VerbUser         = "user"
	VerbCertificates = "certificates"
	VerbAuthority    = "authority"
	VerbSecret       = "secret"
	VerbIdentity     = "identity"
	VerbClients      = "clients"
	VerbTrace        = "trace"
	VerbReplan       = "replan"
	VerbResync       = "resync"
	VerbReset        = "reset"
	VerbRebalance    = "rebalance"
	VerbLogs         = "logs"
	VerbApply        = "apply"
	VerbDefinition   = "definition"
	VerbVersions     = "versions"
	VerbRollback     = "rollback"
)

// Verb is a row of the table of verbs. Who may send the request, the protocol document and
// the tests follow from it; package hub has a handler for each.
type Verb struct {
	Name string
	// By is who may send it on the embedded broker.
	By Sender
	// Private is set if request and answer are between the asking connection and the
	// hub alone: no subscriber gets them, and they need an encrypted connection with a
	// user, or the control socket.
	Private bool
	// Needs are the keys of the request that must be there.
	Needs string
	// Data is a zero value of the answer's data; nil where there is none.
	Data any
	Doc  string
}

// Sender is who may send a request, besides admins.
type Sender int

// The senders.
const (
	// ByAdmins are admins alone: the request or its answer would give its sender the rights
	// of an admin, or show what others do.
	ByAdmins Sender = iota
	// ByDomains are the agents of domains too.
	ByDomains
	// ByReaders are domains and readers too: the request changes nothing.
	ByReaders
)

// Verbs lists the verbs a hub answers, in the order of docs/protocol.md.
func Verbs() []Verb {
	return []Verb{
		{VerbJoin, ByDomains, false, "id, name, session", Grant{}, "An agent asks to be the domain of its name. Refused while another id beats under that name."},
		{VerbStatus, ByReaders, false, "", Overview{}, "Hub, domains, services and bridges in one answer."},
		{VerbDomains, ByReaders, false, "", []DomainView{}, "Every known or seen domain."},
		{VerbServices, ByReaders, false, "", []Service{}, "Every service, as service/<service>/status."},
		{VerbDevices, ByReaders, false, "", Devices{}, "Every device on the broker that announces itself, and what is wrong with announcements. Long lists come in parts: `next`, asked for as `after`."},
		{VerbStart, ByDomains, false, "service", nil, "As ON at service/<service>/set."},
		{VerbStop, ByDomains, false, "service", nil, "As OFF at service/<service>/set."},
		{VerbRestart, ByDomains, false, "service; domain for one instance", nil, "Restarts the instances that run."},
		{VerbScale, ByDomains, false, "service, replicas", nil, "As {\"replicas\": N} at service/<service>/set."},
		{VerbReset, ByDomains, false, "service", nil, "As RESET at service/<service>/set."},
		{VerbUpdate, ByDomains, false, "service", nil, "As UPDATE at service/<service>/set."},
		{VerbDrain, ByDomains, false, "domain", nil, "As ON at domain/<domain>/drain/set."},
		{VerbUndrain, ByDomains, false, "domain", nil, "As OFF at domain/<domain>/drain/set."},
		{VerbForget, ByAdmins, true, "domain", Forgotten{}, "Ends a domain: stops the services of one that is adopted and online, revokes its key, clears what is stored of it. One without a key must not be online. Answered with the secrets that it has had. Private."},
		{VerbAdopt, ByAdmins, true, "code and domain, or code alone, or domain and replace", nil, "Adopts a machine that waits, by its code: answered once it is adopted, or why it is not. Without `domain` the code alone decides which of the machines that wait is meant; such a request is refused in an event too, as Home Assistant reads no answer. With `replace` the machine takes the name of another one, whose key is revoked; without a code the one that was refused as a copy is the domain from now on. Private."},
		{VerbPermitJoin, ByAdmins, true, "", JoinWindow{}, "Opens the window: the first domain that asks for it is adopted without a code; with `duration` (2m), `count` (1); the action close closes it. Answered with the window. Private."},
		{VerbToken, ByAdmins, true, "action; create: name, count, duration, use; remove: token", []TokenView{}, "The tokens by which machines join: list, create or remove. The answer to create is the one row of the new token, with its secret. Private."},
		{VerbEvents, ByReaders, false, "limit", []Event{}, "The last events, oldest first."},
		{VerbPlan, ByReaders, false, "", []PlanLine{}, "What the hub would do now, a line an action, with its reason; with `config`: what it would do then; with `without`, `drain` or `rebalance`: what becomes of the services by it, losses first."},
		{VerbReplan, ByDomains, false, "", nil, "Plans the whole home again and sends the resulting start commands. The hub does that by itself for what has changed; this is for diagnosis."},
		{VerbRebalance, ByDomains, false, "", nil, "Spreads what may run on several domains over those that are there now: a copy moves where the hub would place it elsewhere today. `plan` with `rebalance` lists what moves. Exclusive services and what runs on each domain stay."},
		{VerbResync, ByAdmins, false, "domain", nil, "Agrees with a domain again on epoch, generation and session: the hub drops what it has stored of them, the agent joins again and obeys the hub from the epoch that it is granted, and the whole start command follows. For a domain that obeys no start commands; what runs goes on. For admins."},
		{VerbLogs, ByAdmins, false, "service, domain; lines, follow", LogLines{}, "The last lines that a service wrote on a domain: the hub has the domain answer; one that is not connected does not. With `follow` its new lines come at domain/<domain>/service/<service>/log. For admins."},
		{VerbWhy, ByReaders, false, "service; domain for one", Why{}, "Why a service runs where it runs, or why it does not."},
		{VerbApply, ByAdmins, true, "toml; base, plan", Applied{}, "Defines services at run time, or changes such definitions: all of them or none. With `plan` nothing is changed. A service that a file of the hub's machine defines is refused, and so is a `base` that is not the revision that counts. Private."},
		{VerbDefinition, ByAdmins, true, "service", DefinitionView{}, "The definition of a service, with its environment. Private."},
		{VerbVersions, ByReaders, false, "service", []ServiceVersion{}, "The last ten versions of a service that was defined at run time, the newest first."},
		{VerbRollback, ByAdmins, true, "service; version", Applied{}, "Defines a service as it was with a former version. Private."},
		{VerbAccess, ByDomains, false, "user, action, topic", Access{}, "Whether a user of the embedded broker may do something, and which rule decides. For admins."},
		{VerbUser, ByAdmins, true, "action; user, and what it needs", []UserView{}, "The users of the embedded broker: list, add, remove, role or password. For admins; answered with the users. Private."},
		{VerbCertificates, ByAdmins, true, "action; user and certificate_request to issue; key to revoke", []CertificateView{}, "The certificates that the dominion has issued, the newest one of each key; with the action issue, one for a user of the broker, whose key stays where it was made: `certificate` of its row is the answer. The action revoke ends a key: it is answered with its row. Private."},
		{VerbAuthority, ByAdmins, true, "action: rotate with compromised; offline with key", AuthorityView{}, "The dominion's authority, which domains pin, and how far its change has come. The action rotate has a new authority and a new key of the hub replace the present ones, once all domains have stored them, or, with `compromised`, at once. By the control socket alone: export answers with the authority's key, and offline, with `key` as the authority's that was stored elsewhere, removes it here and leaves an intermediate. Private."},
		{VerbIdentity, ByAdmins, true, "action require", nil, "With the action require, machines that joined before they had a key, and have none yet, may not join or report any more: they must be adopted by code. Private."},
		{VerbSecret, ByAdmins, true, "action; set: secret, value; remove: secret", []SecretView{}, "The secrets that services get in their environment: list, set or remove; answered with the secrets, never with a value. Private."},
		{VerbClients, ByAdmins, false, "action kick, forget: client", []ClientView{}, "The clients of the embedded broker, those too that are away and have a session; `kick` ends the connection of one, `forget` its session too, and what makes its identifier its user's. For admins."},
		{VerbTrace, ByAdmins, false, "topic, name", Traced{}, "What becomes of the packets of a client, or of a topic: lines at response/trace/<name>, with QoS 0, for a minute; asked again it goes on. For admins."},
		{VerbVersion, ByReaders, false, "", VersionView{}, "Version of hub and contract."},
	}
}

// senders returns who may send each verb.
var senders = sync.OnceValue(func() map[string]Sender {
	all := make(map[string]Sender)
	for _, v := range Verbs() {
		all[v.Name] = v.By
	}
	return all
})

// Grant is the answer to a join: the agent connects again, with its will.
type Grant struct {
	Dominion string `json:"dominion" type:"id" doc:"id of the dominion"`
	Name     string `json:"name" type:"name" doc:"name of the dominion"`
	Epoch    uint64 `json:"epoch" doc:"of the hub's run"`
	// Alive is zero where the broker ends with the hub.
	Alive Seconds `json:"alive,omitzero" doc:"how often at least the hub publishes at hub/availability, not retained, where the broker is not its own: an agent that hears nothing from it for three times as long takes it for gone, whatever is retained"`
	// Run is that of start commands.
	Run string `json:"run,omitempty" type:"id" doc:"of this run of the hub, as in start commands"`
	// Hub, Ephemeral, Word and Certificate are for domains that were adopted.
	Hub         *HubCertificateView `json:"hub,omitempty" doc:"as hub/certificate: by it the domain verifies this answer, and orders"`
	Ephemeral   []byte              `json:"ephemeral,omitempty" doc:"base64 of the hub's key for this join alone, an uncompressed point of P-256: the keys of MACs are derived by it"`
	Word        string              `json:"word,omitempty" type:"id" doc:"the word that the domain shows at its next join; it stores and then confirms it"`
	Certificate [][]byte            `json:"certificate,omitempty" doc:"base64 of a new certificate of the domain's key (DER) and its issuers without the authority, when the former one is to be renewed"`
	// Upgrade is for a domain that joined before it had a key.
	Upgrade bool `json:"upgrade,omitempty" doc:"this dominion has keys, and none of this domain: an agent that has one asks to be adopted by its question with upgrade"`
	Renew   bool `json:"renew,omitempty" doc:"by the hub's clock the domain's certificate has ended, or is to be renewed: the domain asks for a new one, whatever its own clock says"`
	// CertifiesServices is of every join, ServiceCertificates of the answer to service_keys alone.
	CertifiesServices   bool                `json:"certifies_services,omitempty" doc:"whether the hub issues certificates to the services of this domain: it has its own broker"`
	ServiceCertificates map[string][][]byte `json:"service_certificates,omitempty" key:"name" doc:"by service: the certificate of its key (DER) and its issuers without the authority; a service whose key the hub refuses is absent"`
}

// JoinWindow is whether domains that ask for it are adopted without a code.
type JoinWindow struct {
	Open  bool `json:"open" doc:"whether they are"`
	Until Time `json:"until,omitzero" doc:"when it closes by itself; absent: it is closed, or open without an end (adoption = \"open\")"`
	Left  int  `json:"left,omitempty" doc:"how many domains it still adopts; absent: it is closed, or there is no limit"`
}

// TokenView is a token by which machines join.
type TokenView struct {
	ID       string      `json:"id" type:"word" doc:"of the token: the first digits of SHA-256 of its public key"`
	Name     string      `json:"name,omitempty" type:"name" doc:"the only domain that it lets join"`
	Use      string      `json:"use" type:"word" doc:"domain or hub"`
	UsesLeft int         `json:"uses_left" doc:"how many more machines it lets join"`
	Expires  Time        `json:"expires,omitzero" doc:"when it ends, at the latest"`
	UsedBy   []TokenUser `json:"used_by" doc:"the machines that it let join"`
	// Token is of the answer to create alone.
	Token string `json:"token,omitempty" type:"line" doc:"of the one that was created: the secret itself"`
}

// TokenUser is a machine that joined by a token.
type TokenUser struct {
	Name string `json:"name" type:"name" doc:"of the domain"`
	Key  string `json:"key" type:"id" doc:"SHA-256 of its key"`
	At   Time   `json:"at" doc:"when it joined"`
}

// Overview is the answer to status.
type Overview struct {
	Hub      Hub          `json:"hub" doc:"as hub/status"`
	Domains  []DomainView `json:"domains" doc:"as the verb domains"`
	Services []Service    `json:"services" doc:"as the verb services"`
	Window   JoinWindow   `json:"window,omitzero" doc:"whether domains are adopted without a code; absent: they are not"`
	Bridges  []BridgeView `json:"bridges,omitempty" doc:"to other brokers, where the broker is the embedded one"`
	Problems []string     `json:"problems" type:"text" doc:"what needs a human, in words"`
}

// CertificateView is a certificate that the dominion has issued.
type CertificateView struct {
	Name    string `json:"name" type:"text" doc:"of a user, or of a service as SERVICE.DOMAIN; the id of a hub or domain"`
	Use     string `json:"use" type:"word" doc:"hub, domain, user or service"`
	Domain  string `json:"domain,omitempty" type:"name" doc:"of a domain its name, which it has or had when its key was revoked"`
	Key     string `json:"key" type:"line" doc:"SHA-256 of its key, in hexadecimal"`
	Issued  Time   `json:"issued,omitzero" doc:"when it was issued; absent: unknown, of a key that was revoked"`
	Expires Time   `json:"expires,omitzero" doc:"when it ends; absent: unknown, of a key that was revoked"`
	Revoked bool   `json:"revoked" doc:"whether its key is not accepted any more"`
	// Certificate is of the answer to issue alone.
	Certificate string `json:"certificate,omitempty" type:"text" doc:"of the one that was issued: PEM, with those between it and the authority's"`
}

// AuthorityView is the dominion's authority, and how far its change has come.
type AuthorityView struct {
	Key         string   `json:"key" type:"line" doc:"SHA-256 of its key, in hexadecimal"`
	Expires     Time     `json:"expires" doc:"when its certificate ends"`
	Offline     bool     `json:"offline" doc:"its key is not here: an intermediate signs in its place"`
	Next        string   `json:"next,omitempty" type:"line" doc:"SHA-256 of the key of the authority that replaces it; absent: none does"`
	Since       Time     `json:"since,omitzero" doc:"when that was asked for"`
	Compromised bool     `json:"compromised,omitempty" doc:"it ends without waiting for domains that are away"`
	Has         []string `json:"has" type:"name" doc:"the domains that have stored the next one"`
	Missing     []string `json:"missing" type:"name" doc:"those that have not"`
	Behind      []string `json:"behind" type:"name" doc:"the domains that were away when the authority was replaced, and that need their code"`
	// PrivateKey is of the answer to export alone.
	PrivateKey string `json:"private_key,omitempty" type:"text" doc:"of the action export: the key and certificate themselves, PEM"`
}

// BridgeView is a bridge to another broker.
type BridgeView struct {
	Name        string         `json:"name" type:"name" doc:"name of the bridge"`
	Connected   bool           `json:"connected" doc:"it carries"`
	Since       Time           `json:"since" doc:"when it began to carry, or ceased to"`
	Reason      string         `json:"reason,omitempty" type:"text" doc:"why it is not connected"`
	Refused     uint64         `json:"refused" doc:"messages that a side refused and that were left out, since the start of the hub"`
	Dropped     uint64         `json:"dropped" doc:"all that were left out since the start of the hub: the refused ones, those of QoS 0 while it did not carry, and those beyond the limits of its queue"`
	LastRefusal *BridgeRefusal `json:"last_refusal,omitempty" doc:"the last of the refused"`
	Problems    []string       `json:"problems,omitempty" type:"text" doc:"what needs a human, in words"`
}

// BridgeRefusal is a message that a bridge left out because a side refused it.
type BridgeRefusal struct {
	At        Time   `json:"at" doc:"when it was refused"`
	Direction string `json:"direction" type:"word" doc:"out: the other broker refused it; in: ours did"`
	Topic     string `json:"topic" type:"text" doc:"of the message, as the broker that refused it has it"`
	Reason    string `json:"reason" type:"text" doc:"why, in words"`
	Size      int    `json:"size,omitempty" doc:"bytes of its packet"`
	Limit     int    `json:"limit,omitempty" doc:"bytes of a packet that the broker takes, where that is the reason"`
}

// DomainState is what the hub thinks of a domain. A closed list.
type DomainState string

// The states of a domain.
const (
	DomainIsOnline  DomainState = "online"  // joined and beating
	DomainIsOffline DomainState = "offline" // said so, or its will did; its services stay where they are
	DomainIsLost    DomainState = "lost"    // silent for lost_after; its services move
	DomainIsLonely  DomainState = "lonely"  // seen by zeroconf, not joined
	DomainIsWaiting DomainState = "waiting" // it waits for adoption
	DomainIsRefused DomainState = "refused" // another machine has its name, or its status cannot be read
)

// DomainView is one domain, as the hub sees it.
type DomainView struct {
	Name      string      `json:"name" type:"name" doc:"name of the domain"`
	ID        string      `json:"id,omitempty" type:"id" doc:"UUID of the domain"`
	State     DomainState `json:"state" type:"word" doc:"online, offline, lost, lonely, waiting or refused"`
	Micro     bool        `json:"micro,omitempty" doc:"a microcontroller"`
	Draining  bool        `json:"draining" doc:"nothing is placed on it"`
	Address   string      `json:"address,omitempty" type:"address" doc:"where its services are reached"`
	Version   string      `json:"version,omitempty" type:"build" doc:"of the agent"`
	OS        string      `json:"os,omitempty" type:"word" doc:"as Go names it"`
	Arch      string      `json:"arch,omitempty" type:"word" doc:"as Go names it"`
	Platform  string      `json:"platform,omitempty" type:"platform" doc:"which programs run on it, as container images name it; absent: its agent is older"`
	Accept    string      `json:"accept,omitempty" type:"word" doc:"how far it trusts its dominion: local, environment, deploy or upgrade; absent: its agent is older"`
	Traits    []string    `json:"traits" type:"name" doc:"what it offers"`
	Since     Time        `json:"since,omitzero" doc:"when it came into this state"`
	Services  []Instance  `json:"services" doc:"what runs or should run on it"`
	Catalog   []string    `json:"catalog" type:"name" doc:"the services on its disk"`
	Stale     bool        `json:"stale,omitempty" doc:"services, traits and catalog are what it reported last, and nobody knows what it runs now: it is lost, or a microcontroller that is offline"`
	Problem   string      `json:"problem,omitempty" type:"text" doc:"what is wrong with it and what to do"`
	Heartbeat *Heartbeat  `json:"heartbeat,omitempty" doc:"the last one"`
	Unsigned  bool        `json:"unsigned,omitempty" doc:"true: it joined before it had a key, and has none yet, so that nothing between it and the hub is signed"`
	Reason    string      `json:"reason,omitempty" type:"line" doc:"waiting: why it waits although it was adopted, so that it needs no code"`
	Key       string      `json:"key,omitempty" type:"line" doc:"waiting: the first 16 digits of SHA-256 of its key, grouped as the machine itself shows them; a label, not a proof"`
	Model     string      `json:"model,omitempty" type:"line" doc:"waiting: of the machine"`
}

// PlanLine is one line of a plan.
type PlanLine struct {
	Action  string `json:"action" type:"line" doc:"what the hub does now: start, stop, keep or wait; with without, drain or rebalance what becomes of the service: goes down, stop, moves, starts, wait or stays"`
	Service string `json:"service" type:"name" doc:"the service; empty: the hub itself"`
	Domain  string `json:"domain,omitempty" type:"name" doc:"the domain; of moves the one that it moves to; none for wait"`
	From    string `json:"from,omitempty" type:"name" doc:"moves: the domain that it leaves"`
	Reason  string `json:"reason" type:"text" doc:"why, in words"`
}

// The actions of a PlanLine. The first four say what the hub does now, the others
// what becomes of a service in a home that was asked about, which a line of
// ActionStop or ActionWait may say as well.
const (
	ActionStart = "start"
	ActionStop  = "stop" // there: a copy ends while others serve, or nothing wants it any more
	ActionKeep  = "keep"
	ActionWait  = "wait" // there: it does not run now, and would not run then

	ActionGoesDown = "goes down" // it runs now, and would run nowhere
	ActionMoves    = "moves"
	ActionStarts   = "starts" // a copy more than now
	ActionStays    = "stays"
)

// Why is the answer to why.
type Why struct {
	Service string    `json:"service" type:"name" doc:"the service"`
	State   State     `json:"state" type:"word" doc:"of the service as a whole"`
	Reason  string    `json:"reason" type:"text" doc:"why it is so, in words"`
	Domains []WhyLine `json:"domains" doc:"a line a domain"`
}

// WhyLine is why a service runs on a domain, or why it does not.
type WhyLine struct {
	Domain string `json:"domain" type:"name" doc:"the domain"`
	Runs   bool   `json:"runs" doc:"whether it should run there"`
	State  State  `json:"state,omitempty" type:"word" doc:"what the domain says of it, where it has something of it"`
	Reason string `json:"reason" type:"text" doc:"why, in words"`
	// NextTry belongs to what the reason says of an instance in trouble.
	NextTry Time `json:"next_try,omitzero" doc:"backoff, failed: when it is started again by itself"`
}

// Access is the answer to access.
type Access struct {
	User    string `json:"user" type:"text" doc:"of the broker"`
	Role    string `json:"role" type:"word" doc:"of the user"`
	Action  string `json:"action" type:"word" doc:"publish, subscribe or deliver"`
	Topic   string `json:"topic" type:"text" doc:"topic or filter"`
	Allowed bool   `json:"allowed" doc:"what the broker does"`
	By      string `json:"by" type:"text" doc:"the rule that decides, in words"`
}

// UserView is one user of the embedded broker.
type UserView struct {
	Name        string `json:"name" type:"text" doc:"of the user"`
	Role        string `json:"role" type:"word" doc:"admin, reader, device or domain"`
	Password    bool   `json:"password" doc:"whether a password lets it in"`
	Certificate bool   `json:"certificate" doc:"whether a certificate with its name lets it in"`
	Configured  bool   `json:"configured" doc:"in dominion.toml: changed there alone"`
}

// ClientView is one client of the embedded broker.
type ClientView struct {
	Client        string `json:"client" type:"text" doc:"client identifier"`
	User          string `json:"user,omitempty" type:"text" doc:"of the broker; none: anonymous"`
	Address       string `json:"address,omitempty" type:"text" doc:"the client's, with its port; of one that is away the last one"`
	Listener      string `json:"listener" type:"word" doc:"mqtt, mqtts, ws, wss or unix; of WebSockets at [http]: http, https, http-loopback (a program of the hub's machine) or http-forwarded (a proxy there)"`
	Protocol      string `json:"protocol" type:"protocol" doc:"3.1, 3.1.1 or 5.0"`
	Connected     bool   `json:"connected" doc:"whether it is; else it is away, and its session is kept"`
	Since         Time   `json:"since,omitzero" doc:"when it connected, or went away"`
	Expires       Time   `json:"expires,omitzero" doc:"when the session ends of one that is away; none: never"`
	Subscriptions int    `json:"subscriptions" doc:"how many it has"`
	Queued        int    `json:"queued" doc:"messages that wait for it, or for its acknowledgement"`
	QueuedBytes   int    `json:"queued_bytes" doc:"of these"`
	Dropped       uint64 `json:"dropped" doc:"messages that it did not get, since the broker began or the session"`
	Memory        int    `json:"memory" doc:"bytes that it takes up in the broker's memory: connection, subscriptions, queues"`
	Refused       uint64 `json:"refused" doc:"subscriptions and messages that a limit refused, since the broker began or the session"`
}

// Traced is the answer to trace.
type Traced struct {
	Topic   string  `json:"topic" type:"text" doc:"where the lines come"`
	Seconds Seconds `json:"seconds" doc:"for how long, if it is not asked again"`
}

// TraceLine is one line of a trace: a packet, or what became of a message.
type TraceLine struct {
	At        Time   `json:"at" doc:"when the broker handled it"`
	Client    string `json:"client,omitempty" type:"text" doc:"whose packet it is"`
	User      string `json:"user,omitempty" type:"text" doc:"of the client"`
	Remote    string `json:"remote,omitempty" type:"text" doc:"address of the client"`
	Direction string `json:"direction,omitempty" type:"text" doc:"in: from the client; out: to it"`
	Packet    string `json:"packet,omitempty" type:"text" doc:"its kind, as MQTT names it"`
	QoS       int    `json:"qos,omitempty" doc:"of a message or a subscription"`
	Dup       bool   `json:"dup,omitempty" doc:"sent again"`
	Retain    bool   `json:"retain,omitempty" doc:"the flag"`
	PacketID  int    `json:"packet_id,omitempty" doc:"packet identifier"`
	Topic     string `json:"topic,omitempty" type:"text" doc:"of a message, or the filter of a subscription"`
	Payload   string `json:"payload,omitempty" type:"text" doc:"how it begins, what is no text escaped"`
	Size      int    `json:"size,omitempty" doc:"bytes of the payload, or of the packet"`
	Code      int    `json:"code,omitempty" doc:"reason code"`
	Result    string `json:"result,omitempty" type:"text" doc:"refused or dropped; none: neither"`
	By        string `json:"by,omitempty" type:"text" doc:"the rule that refused it"`
	Note      string `json:"note,omitempty" type:"text" doc:"what else there is to say, in words"`
	LeftOut   int    `json:"left_out,omitempty" doc:"lines that were too many in this second; nothing else is in the line then"`
}

// ForAdmins reports whether a verb is for admins alone, its answers too: what it
// carries would make an admin of anybody, is what others said, or disturbs another
// domain.
func ForAdmins(verb string) bool {
	by, is := senders()[verb]
	return is && by == ByAdmins
}

// privateVerbs are the verbs whose request and answer nobody else sees.
var privateVerbs = sync.OnceValue(func() map[string]bool {
	all := make(map[string]bool)
	for _, v := range Verbs() {
		all[v.Name] = v.Private
	}
	return all
})

// IsPrivate reports whether request and answer of a verb are between the asking
// connection and the hub alone.
func IsPrivate(verb string) bool { return privateVerbs()[verb] }

// PrivateRefusal is why a private request was refused, with the remedy.
func PrivateRefusal(verb string) string {
	return "the request " + verb + " is private: use dominionctl on the hub's machine, or an encrypted connection (mqtts) with the user and password of an admin"
}

// VersionView is the answer to version.
type VersionView struct {
	Version  string `json:"version" type:"build" doc:"of the hub"`
	Protocol string `json:"protocol" type:"protocol" doc:"of this contract"`
}

// LogLines is the data of the response to the command logs.
type LogLines struct {
	Lines []LogLine `json:"lines" doc:"oldest first"`
}
