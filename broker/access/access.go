// Package access decides which client may publish to, subscribe to and receive which
// topics.
//
// It is pure: a Policy is made from the topic prefixes and the owner's rules, and
// returns for a client, an action and a topic whether that is allowed, and which rule
// decided. The broker calls it for every packet; dominionctl access prints the same
// answer. It knows neither passwords nor connections. broker and hub may import it.
package access

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Action is an operation of a client on a topic.
type Action uint8

// The actions.
const (
	// Publish to a topic: also a will, and a retained message.
	Publish Action = iota
	// Subscribe to a filter.
	Subscribe
	// Deliver a message of a topic to the client: also a retained or queued one.
	Deliver
)

func (a Action) String() string {
	return [...]string{"publish", "subscribe", "deliver"}[a]
}

// ParseAction is the inverse of Action.String.
func ParseAction(word string) (a Action, ok bool) {
	for a = Publish; a <= Deliver; a++ {
		if a.String() == word {
			return a, true
		}
	}
	return 0, false
}

// Client is the client that a decision is about.
type Client struct {
	// User is "" for an anonymous client.
	User string
	// ID is the MQTT client identifier.
	ID string
	// Role is "" for a user that no longer exists: nothing is allowed.
	Role string
}

// Decision is whether something is allowed, and by which rule.
type Decision struct {
	Allowed bool
	// By is the rule, as "role device: …" or "rule 2: …".
	By string
}

// Rule is a rule of the owner. The first rule that applies decides; if none does, the
// client's role.
type Rule struct {
	// Name identifies the rule in decisions; "": its number does.
	Name string
	// Users and Roles are whom the rule is for; both empty: everybody.
	Users []string
	Roles []string
	// Actions are what the rule is about. Subscribe includes Deliver.
	Actions []Action
	Deny    bool
	// Topics are filters; %u is replaced by the user's name, %c by the client
	// identifier.
	Topics []string
}

// Policy is a set of rules. It is immutable.
type Policy struct {
	// prefix is the topic_prefix of the dominion.
	prefix string
	// discovery is the discovery_prefix of Home Assistant.
	discovery string
	rules     []rule
}

// rule is a Rule with its description for decisions.
type rule struct {
	Rule
	description string
}

// New returns the policy of a dominion: its topic_prefix, Home Assistant's
// discovery_prefix, and the owner's rules in their order. An error names the rule.
func New(prefix, discovery string, rules []Rule) (*Policy, error) {
	p := &Policy{prefix: prefix, discovery: discovery}
	for i, r := range rules {
		name := r.Name
		if name == "" {
			name = strconv.Itoa(i + 1)
		}
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("cannot use access rule %s: %w", name, err)
		}
		p.rules = append(p.rules, rule{r, fmt.Sprintf("rule %s: %s", name, r)})
	}
	return p, nil
}

// check returns what is wrong with a rule.
func (r Rule) check() error {
	if len(r.Actions) == 0 {
		return fmt.Errorf(`it needs "allow" or "deny" with publish, subscribe or both`)
	}
	if len(r.Topics) == 0 {
		return fmt.Errorf("it has no topics")
	}
	for _, role := range r.Roles {
		if !slices.Contains(Roles(), role) {
			return fmt.Errorf("%q is not a valid role: use one of %s", role, strings.Join(Roles(), ", "))
		}
		if role == RoleAdmin {
			return fmt.Errorf("a rule cannot restrict the role admin, so that no admin is locked out")
		}
	}
	for _, t := range r.Topics {
		if err := CheckFilter(t); err != nil {
			return err
		}
	}
	return nil
}

// CheckFilter returns what is wrong with the filter of a rule: MQTT 5.0, 4.7.1
// applies, and "%" must be followed by "u" or "c".
func CheckFilter(filter string) error {
	if filter == "" {
		return fmt.Errorf("a filter is empty")
	}
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) || strings.Contains(l, "+") && l != "+" || strings.ContainsRune(l, 0) {
			return fmt.Errorf("%q is not a valid filter: + matches one whole level, # all that follow", filter)
		}
		for _, after := range strings.Split(l, "%")[1:] {
			if after == "" || after[0] != 'u' && after[0] != 'c' {
				return fmt.Errorf("%q is not a valid filter: use %%u for the user's name, %%c for the client identifier", filter)
			}
		}
	}
	return nil
}

// String returns the rule as a sentence.
func (r Rule) String() string {
	word := "allow"
	if r.Deny {
		word = "deny"
	}
	var actions []string
	for _, a := range r.Actions {
		actions = append(actions, a.String())
	}
	who := "everybody"
	switch users, roles := strings.Join(r.Users, ", "), strings.Join(r.Roles, ", "); {
	case users != "" && roles != "":
		who = users + ", role " + roles
	case users != "":
		who = users
	case roles != "":
		who = "role " + roles
	}
	return fmt.Sprintf("%s %s %s to %s", word, who, strings.Join(actions, " and "), strings.Join(r.Topics, ", "))
}

// Decide decides whether a client may do something. topic is a filter if the action is
// Subscribe; a shared one ($share/group/filter) is treated as the filter in it.
//
// A subscription is allowed if the client may receive everything that it matches. It
// is also allowed if only some of it may not be delivered, for devices, whose makers
// subscribe to "#" and the like, and if a rule denies a part of it. The delivery of
// each message is decided separately.
func (p *Policy) Decide(c Client, a Action, topic string) Decision {
	if c.Role == RoleAdmin && a == Publish && isSysFigure(topic) {
		return Decision{false, "role admin: everything but publishing the broker's own topics"}
	}
	if c.Role == RoleAdmin {
		return Decision{true, "role admin: everything"}
	}
	if c.Role == RoleApplicant { // also where a rule is for everybody
		rest, ours := p.underPrefix(topic)
		return decideApplicant(a, rest, ours)
	}
	if c.Role != RoleService && !slices.Contains(Roles(), c.Role) {
		return Decision{false, "no role: nothing is allowed"}
	}
	if a == Subscribe {
		topic = Unshared(topic)
	}
	if reason := p.adminOnly(c, a, topic); reason != "" {
		return Decision{false, reason}
	}
	hubOnly := a == Publish && p.hubOnly(topic)
	ineffective := ""
	for i := range p.rules {
		r := &p.rules[i]
		if !r.applies(p, c, a, topic) {
			continue
		}
		if r.Deny || !hubOnly {
			return Decision{!r.Deny, r.description}
		}
		if ineffective == "" {
			ineffective = r.description
		}
	}
	d := p.decideByRole(c, a, topic)
	if ineffective != "" && !d.Allowed {
		d.By += "; only the hub, the broker and admins may publish here, so this has no effect: " + ineffective
	}
	return d
}

// hubOnly reports whether no rule can allow publishing to a topic: topics that the hub
// alone publishes and that agents and users rely on, orders to agents, and the
// broker's own topics. The exception below $SYS is the state of a bridge, which
// bridges of mosquitto publish.
func (p *Policy) hubOnly(topic string) bool {
	if rest, ours := p.underPrefix(topic); ours {
		return coveredByAny(hubPublishes, rest, Client{})
	}
	return strings.HasPrefix(topic, "$") && !covers(bridgeState, topic, Client{})
}

// bridgeState is where bridges of mosquitto publish whether they are connected.
const bridgeState = "$SYS/broker/connection/+/state"

// isSysFigure reports whether a topic is one of the broker's statistics, which not
// even an admin may publish.
func isSysFigure(topic string) bool {
	return (topic == "$SYS" || strings.HasPrefix(topic, "$SYS/")) && !covers(bridgeState, topic, Client{})
}

// adminOnly returns why something is for admins only, whatever the rules are; "": it
// is not. Start commands carry the environment of services, with their passwords:
// besides admins only the domain itself may read them. Some requests give their sender
// the rights of an admin.
func (p *Policy) adminOnly(c Client, a Action, topic string) string {
	rest, ours := p.underPrefix(topic)
	if !ours {
		return ""
	}
	kind, below, _ := strings.Cut(rest, "/")
	verb, _, _ := strings.Cut(below, "/")
	if (kind == "request" || kind == "response") && topics.ForAdmins(verb) {
		return "only admins may use the request " + verb + " and its answers"
	}
	if a == Publish || c.Role == RoleDomain && covers("domain/%u/#", rest, c) {
		return ""
	}
	if covers("domain/+/services/set", rest, c) {
		return "start commands carry secrets: only their domain and admins may read them"
	}
	return ""
}

// underPrefix returns a topic without the dominion's prefix, and whether it has that
// prefix.
func (p *Policy) underPrefix(topic string) (rest string, ours bool) {
	rest, ours = strings.CutPrefix(topic, p.prefix)
	if !ours || rest == "" {
		return "", ours
	}
	return strings.CutPrefix(rest, "/")
}

// applies reports whether a rule is about a client, an action and the whole of a topic
// or filter. A wildcard in the place of the prefix does not match the dominion's
// topics, nor one at the first level those of the broker [MQTT-4.7.2-1]: an owner who
// wants to allow them must name them.
func (r *rule) applies(p *Policy, c Client, a Action, topic string) bool {
	if !r.matchesClient(c) || !r.matchesAction(a) {
		return false
	}
	_, ours := p.underPrefix(topic)
	for _, f := range r.Topics {
		if ours && !r.Deny && !hasLiteralPrefix(f, p.prefix) || topic != "" && topic[0] == '$' && f[0] != '$' {
			continue
		}
		if covers(f, topic, c) {
			return true
		}
	}
	return false
}

// hasLiteralPrefix reports whether a filter begins with a prefix literally, without a
// wildcard or placeholder.
func hasLiteralPrefix(filter, prefix string) bool {
	rest, ok := strings.CutPrefix(filter, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// matchesClient reports whether the rule is for a client.
func (r *rule) matchesClient(c Client) bool {
	if len(r.Users) == 0 && len(r.Roles) == 0 {
		return true
	}
	role := c.Role
	if role == RoleService {
		role = RoleDevice
	}
	return slices.Contains(r.Users, c.User) || slices.Contains(r.Roles, role)
}

// matchesAction reports whether the rule is about an action.
func (r *rule) matchesAction(a Action) bool {
	return slices.Contains(r.Actions, a) || a == Deliver && slices.Contains(r.Actions, Subscribe)
}

// Unshared returns the filter in that of a shared subscription, $share/group/filter;
// any other it returns unchanged.
func Unshared(filter string) string {
	if len(filter) > 7 && strings.EqualFold(filter[:7], "$share/") {
		if _, rest, ok := strings.Cut(filter[7:], "/"); ok {
			return rest
		}
	}
	return filter
}
