// Package config reads the TOML files of a dominion: dominion.toml of the hub,
// domain.toml of an agent, and the service.toml that a service may bring along.
//
// It owns their keys, the defaults, the environment variables that override
// them, and the faults: every one at once, each with file, line, key and a
// hint. It does not open the files that a configuration names (certificates,
// passwords): who needs them does, and says so.
//
// hub, broker, agent and the programs may import it; of this module it imports
// topics, services, and of the broker what decides purely: access, limits, origin.
//
// # Environment
//
// A key is overridden by DOMINION_CFG_ (domain.toml: DOMAIN_CFG_) and its path
// in upper case, with "_" for what separates tables and for "-":
//
//	DOMINION_CFG_BROKER_LISTEN=:1883
//	DOMINION_CFG_TIMING_HEARTBEAT=2s
//	DOMINION_CFG_SERVICES_LIGHT_BULB_REPLICAS=2           services.light-bulb
//	DOMINION_CFG_SERVICES_WEB_ENVIRONMENT_COLOUR=blue     one variable of it
//	DOMINION_CFG_BROKER_USERS_PI_KITCHEN_ROLE=domain      the user pi-kitchen
//	DOMAIN_CFG_TRAITS=compute,npbar                       lists: commas
//
// Services and users are those that the file defines: a variable adds none. A
// variable that names no key is a fault, as an unknown key of the file is.
//
// # Paths
//
// A relative path in a file is relative to the folder of that file, one in the
// environment to the working directory. Loaded paths are absolute.
//
// # Files
//
//	access_rules.go     [[broker.rules]]
//	address.go          checks of addresses and URLs
//	bounds.go           how large and deep a file may be
//	bridges.go          [[broker.bridges]]
//	broker.go           [broker]: listeners, certificates, external broker
//	config.go           the loaded structures; loading, checking, warnings
//	definition.go       [services.NAME] of dominion.toml
//	domain.go           domain.toml
//	dominion.go         dominion.toml but for the sections that have files; reload
//	fault.go            the form of a fault
//	host.go             the machine that defaults depend on: data_dir
//	http.go             [http]: ports, proxies, origins
//	identity.go         [identity] and adoption
//	limits.go           [broker.limits]
//	loader.go           reading a file, variables that override it, unknown keys
//	persistence.go      [broker.persistence]: sync, exclude
//	positions.go        line numbers of faults
//	service_toml.go     service.toml, which a service brings along
//	setting.go          what a setting has: default, check, effect of a reload
//	sibling_file.go     keys of the other kind of file
//	table.go            a table while it is read
//	timing.go           [timing]: heartbeats, leases
//	topic_names.go      checks of topics and filters
//	traits.go           [traits] sources: defaults, patterns
//	users.go            [[broker.users]]
//	values.go           kinds of values: durations, sizes, numbers, lists
//	whatif_services.go  the services of plan --config
package config

import (
	"net"
	"net/netip"
	"time"

	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/broker/limits"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Dominion is a dominion.toml with defaults and environment.
type Dominion struct {
	// File is the one that it was read from; "" for the built-in defaults.
	File        string
	Name        string
	DataDir     string
	TopicPrefix string
	// Metrics is a further host:port of HTTP: the name that [http] listen had before;
	// "": none.
	Metrics       string
	Broker        Broker
	HTTP          HTTP
	Identity      Identity
	Zeroconf      Zeroconf
	HomeAssistant HomeAssistant
	Devices       Devices
	Timing        topics.Timing
	// Services are sorted by name.
	Services []services.Definition
}

// Broker is [broker]. With External set the hub embeds no broker and the
// listeners and users are without meaning.
type Broker struct {
	// Listen and ListenTLS are host:port; "": no such listener; port 0: any free one.
	Listen, ListenTLS string
	// ListenTLSIsDefault says that the file does not name the address: where it is taken
	// the hub goes on without.
	ListenTLSIsDefault bool
	// ListenWS and ListenWSS are the same for MQTT over WebSocket.
	ListenWS, ListenWSS string
	// ListenUnix is the path of a Unix socket; "": none.
	ListenUnix        string
	CertFile, KeyFile string
	// ClientCAFile holds the authorities of the certificates of clients; "": none are
	// requested.
	ClientCAFile       string
	RequireCertificate bool
	AllowAnonymous     bool
	// External is mqtt[s]://[user@]host:port, or several with commas between them: see
	// Addresses.
	External string
	// PasswordFile and CAFile are for External.
	PasswordFile, CAFile string
	// Users, Rules and Bridges are in the order of the file.
	Users       []User
	Rules       []access.Rule
	Bridges     []Bridge
	Persistence Persistence
	Limits      Limits
	UserLimits  UserLimits
}

// Persistence is [broker.persistence].
type Persistence struct {
	// Sync is the time until what was acknowledged is on the disk; 0: before it is
	// acknowledged.
	Sync time.Duration
	// Exclude are filters of topics that are never written.
	Exclude []string
}

// Limits is [broker.limits], but for the keys …_per_user.
type Limits = limits.Limits

// UserLimits are the keys …_per_user of [broker.limits], for all clients of one
// user together.
type UserLimits = limits.UserLimits

// User is one [[broker.users]]. At most one of PasswordFile and PasswordHash
// (bcrypt) is set; where none is, Certificate is.
type User struct {
	Name, PasswordFile, PasswordHash, Role string
	// Certificate admits a certificate of client_ca_file with the user's name as common
	// name.
	Certificate bool
}

// The roles of a User.
const (
	RoleAdmin  = access.RoleAdmin
	RoleReader = access.RoleReader
	RoleDevice = access.RoleDevice
	RoleDomain = access.RoleDomain
)

// Zeroconf is [zeroconf].
type Zeroconf struct {
	Enabled bool
	// Interfaces are names; none: those that others can reach.
	Interfaces []string
}

// HomeAssistant is [homeassistant].
type HomeAssistant struct {
	Enabled         bool
	DiscoveryPrefix string
}

// Devices is [devices].
type Devices struct {
	// Enabled lists what other devices on the broker announce.
	Enabled bool
}

// Domain is a domain.toml with defaults and environment.
type Domain struct {
	// File is the one that it was read from; "" for the built-in defaults.
	File   string
	Name   string
	Traits []string
	// TraitsFrom are sorted by trait.
	TraitsFrom  []TraitSource
	ServicesDir string
	DataDir     string
	// Address is an IP address; "": that of the interface of the default route.
	Address string
	// Hub is host:port or mqtt[s]://host:port, or several with commas between them: see
	// Addresses; "": zeroconf.
	Hub                string
	User, PasswordFile string
	CAFile             string
	// CertFile and KeyFile are the certificate of the agent.
	CertFile, KeyFile string
	// Dominion is the name or id of the only dominion to join; "": any.
	Dominion           string
	TopicPrefix        string
	StopServicesOnExit bool
	// RunAs is the user of the services; "": an unprivileged one, or the agent's where
	// that is not root.
	RunAs string
	// AllowRoot are the services that run as root.
	AllowRoot []string
	Zeroconf  Zeroconf
	// Accept is how far the domain trusts its dominion: AcceptEnvironment or AcceptLocal.
	Accept string
	// Adoption is AdoptionAsk, or AdoptionOpen where the domain joins a dominion that is
	// open without a code or token.
	Adoption string
	// TokenFile holds a token by which the domain joins; "": none.
	TokenFile string
}

// The defaults, besides those of services.Default.
const (
	DefaultName            = "home"
	DefaultListen          = "127.0.0.1:1883"
	DefaultListenTLS       = ":8883"
	DefaultDiscoveryPrefix = "homeassistant"
	DefaultServicesDir     = "/usr/local/dominion/services"
	DefaultDataDir         = "/var/lib/dominion"
	DefaultDomainDataDir   = "/var/lib/dominion-domain"
)

// DefaultTiming returns the timing of a dominion that says nothing about it.
func DefaultTiming() topics.Timing { return defaults().Timing }

// DefaultLimits returns the limits of a broker that says nothing about them.
func DefaultLimits() Limits { return limits.Default() }

// DefaultUserLimits returns the limits of users of such a broker.
func DefaultUserLimits() UserLimits { return limits.DefaultUsers() }

// LoadDominion reads dominion.toml and applies environ, which has the form of
// os.Environ. With file "" it returns the built-in defaults with environ
// applied. An error is of type Faults.
//
// data_dir is DefaultDataDir where a file is given or the process is root's:
// that is a machine somebody has set up. `go run ./cmd/dominion` by anybody
// else must work without one and leave nothing where it may not write: then it
// is "dominion" in $XDG_STATE_HOME or ~/.local/state, and where neither that
// nor HOME is set a folder of that user in os.TempDir, which a reboot may
// empty.
func LoadDominion(file string, environ []string) (Dominion, error) {
	return loadDominion(file, environ, thisHost())
}

// LoadDomain reads domain.toml and applies environ, which has the form of
// os.Environ. With file "" it returns the built-in defaults with environ
// applied. An error is of type Faults.
//
// name is the host's name as topics.NameFromHost makes it; data_dir follows
// the same rule as in LoadDominion, with "dominion-domain". services_dir is
// DefaultServicesDir for every user: the agent only reads there.
func LoadDomain(file string, environ []string) (Domain, error) {
	return loadDomain(file, environ, thisHost())
}

// CheckDominion returns what is wrong with dominion.toml: what LoadDominion
// does, and the files it names that are not there.
func CheckDominion(file string, environ []string) error {
	_, err := loadDominion(file, environ, thisHost().checking())
	return err
}

// OpenToAll is the warning about a broker that has users and lets everybody in
// without one.
const OpenToAll = "allow_anonymous = true in [broker] makes an admin of everybody in the network who gives no user, so the passwords and roles of the users protect nothing: set it to false, or delete the users"

// Warnings returns what of the configuration is permitted and hardly meant, a line
// each.
func (d Dominion) Warnings() string {
	b := d.Broker
	if b.External == "" && b.AllowAnonymous && len(b.Users) > 0 &&
		(d.OpenHTTP() || d.open(b.Listen, b.ListenWS, b.ListenTLS, b.ListenWSS)) {
		return "warning: " + OpenToAll + "\n"
	}
	return ""
}

// OpenHTTP reports whether other machines reach an address of HTTP, where MQTT is
// spoken over WebSocket, without a certificate of their own.
func (d Dominion) OpenHTTP() bool {
	return d.open(d.HTTP.Listen, d.Metrics, d.HTTP.ListenTLS, "")
}

// open reports whether other machines reach one of these addresses without a
// certificate of their own.
func (d Dominion) open(plain, furtherPlain, tls, furtherTLS string) bool {
	return reachable(plain) || reachable(furtherPlain) || !d.Broker.RequireCertificate && (reachable(tls) || reachable(furtherTLS))
}

// reachable reports whether a listener at an address is reached by other machines.
func reachable(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.Unmap().IsLoopback()
}

// CheckDomain returns what is wrong with domain.toml: what LoadDomain does,
// and the files it names that are not there.
func CheckDomain(file string, environ []string) error {
	_, err := loadDomain(file, environ, thisHost().checking())
	return err
}
