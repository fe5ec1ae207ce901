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
//	registry.go         [registry]: the bundles of deployed services
//	runtime_services.go definitions at run time
//	service_toml.go     service.toml, which a service brings along
//	setting.go          what a setting has: default, check, effect of a reload
//	sibling_file.go     keys of the other kind of file
//	table.go            a table while it is read
//	timing.go           [timing]: heartbeats, leases
//	topic_names.go      checks of topics and filters
//	traits.go           [traits] sources: defaults, patterns
//	users.go            [[broker.users]]
//	values.go           kinds of values: durations, sizes, numbers, lists
//	warnings.go         what is permitted and hardly meant, such as everybody let in
//	whatif_services.go  the services of plan --config
package config

import (
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
	Registry      Registry
	Identity      Identity
	Zeroconf      Zeroconf
	HomeAssistant HomeAssistant
	Devices       Devices
	Timing        topics.Timing
	// Services are sorted by name.
	Services []services.Definition
}

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
	// Accept is how far the domain trusts its dominion: AcceptLocal, AcceptEnvironment,
	// AcceptDeploy or AcceptUpgrade.
	Accept string
	// FetchRate is how fast bundles are pulled at most, in bytes a second; 0: as fast as they come.
	FetchRate int64
	// AcceptIsDefault reports that Accept is not configured.
	AcceptIsDefault bool
	// Adoption is AdoptionAsk, or AdoptionOpen where the domain joins a dominion that is
	// open without a code or token.
	Adoption string
	// TokenFile holds a token by which the domain joins; "": none.
	TokenFile string
}

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

// CheckDomain returns what is wrong with domain.toml: what LoadDomain does,
// and the files it names that are not there.
func CheckDomain(file string, environ []string) error {
	_, err := loadDomain(file, environ, thisHost().checking())
	return err
}
