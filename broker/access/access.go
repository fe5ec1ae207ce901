// Package access decides who may publish, subscribe and have delivered what.
//
// It is pure: a Policy is made of the topics' names and the owner's rules, and
// says of a client, an action and a topic whether that is allowed, and which
// rule decided. The broker asks it about everything; dominionctl access shows
// the same answer. It knows no passwords and no connections. broker and hub
// may import it.
package access

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Action is what a client wants to do.
type Action uint8

// The actions.
const (
	Publish   Action = iota // to a topic; also a will, and a retained message
	Subscribe               // to a filter
	Deliver                 // to be given a message of a topic, also a retained or queued one
)

func (a Action) String() string {
	return [...]string{"publish", "subscribe", "deliver"}[a]
}

// ParseAction reads what String writes.
func ParseAction(word string) (a Action, ok bool) {
	for a = Publish; a <= Deliver; a++ {
		if a.String() == word {
			return a, true
		}
	}
	return 0, false
}

// Client is who asks.
type Client struct {
	User string // "": anonymous
	ID   string // MQTT client identifier
	Role string // "": of a user that is none any more: nothing is allowed
}

// Decision is the answer, and what it follows from.
type Decision struct {
	Allowed bool
	By      string // "role device: …" or "rule 2: …"
}

// Rule is one of the owner's own. The first one that fits decides; where none
// does, the client's role.
type Rule struct {
	Name  string   // what a decision calls it; "": its number
	Users []string // names; together with Roles: who the rule is for; both empty: everybody
	Roles []string
	// Actions are those that the rule is about: Subscribe stands for Deliver too.
	Actions []Action
	Deny    bool
	Topics  []string // filters; %u stands for the user's name, %c for the client identifier
}

// Policy is a set of rules, ready to be asked. It does not change.
type Policy struct {
	prefix    string // of our topics
	discovery string // of Home Assistant's
	rules     []rule
}

type rule struct {
	Rule
	text string
}

// New returns the policy of a dominion: its topic_prefix, Home Assistant's
// discovery_prefix, and the owner's rules in their order. Its errors name the
// rule.
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

// check says what is wrong with a rule.
func (r Rule) check() error {
	switch {
	case len(r.Actions) == 0:
		return fmt.Errorf(`it needs "allow" or "deny" with publish, subscribe or both`)
	case len(r.Topics) == 0:
		return fmt.Errorf("it names no topics")
	}
	for _, role := range r.Roles {
		if !slices.Contains(Roles(), role) {
			return fmt.Errorf("%q is no role: use one of %s", role, strings.Join(Roles(), ", "))
		}
		if role == RoleAdmin {
			return fmt.Errorf("no rule binds the role admin: nobody is to lock himself out")
		}
	}
	for _, t := range r.Topics {
		if err := CheckFilter(t); err != nil {
			return err
		}
	}
	return nil
}

// CheckFilter says what is wrong with the filter of a rule: MQTT 5, 4.7.1, and
// that %u and %c stand for a whole level or a part of one.
func CheckFilter(filter string) error {
	if filter == "" {
		return fmt.Errorf("a filter is empty")
	}
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) || strings.Contains(l, "+") && l != "+" || strings.ContainsRune(l, 0) {
			return fmt.Errorf("%q is no filter: + stands for one whole level, # for all that follow", filter)
		}
		for _, after := range strings.Split(l, "%")[1:] {
			if after == "" || after[0] != 'u' && after[0] != 'c' {
				return fmt.Errorf("%q is no filter of a rule: after %% comes u, the user's name, or c, the client identifier", filter)
			}
		}
	}
	return nil
}

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

// Decide says whether a client may do something, and why. topic is a filter
// where the action is Subscribe; a shared one ($share/group/filter) is judged as
// the filter in it.
//
// A subscription is a wish: it is allowed where all that it matches may be
// delivered, and for devices, whose makers subscribe to "#" and the like, and
// where a rule takes only a part of it away, also where some of it may not.
// Each message is asked about again when it is to be delivered.
func (p *Policy) Decide(c Client, a Action, topic string) Decision {
	if c.Role == RoleAdmin && a == Publish && system(topic) {
		return Decision{false, "role admin: everything but the broker's own figures, which it alone publishes"}
	}
	if c.Role == RoleAdmin {
		return Decision{true, "role admin: everything"}
	}
	if !slices.Contains(Roles(), c.Role) {
		return Decision{false, "no role: nothing"}
	}
	if a == Subscribe {
		topic = Unshared(topic)
	}
	if why := p.secret(c, a, topic); why != "" {
		return Decision{false, why}
	}
	closed := a == Publish && p.closed(topic)
	without := ""
	for i := range p.rules {
		r := &p.rules[i]
		if !r.decides(p, c, a, topic) {
			continue
		}
		if r.Deny || !closed {
			return Decision{!r.Deny, r.text}
		}
		if without == "" {
			without = r.text
		}
	}
	d := p.byRole(c, a, topic)
	if without != "" && !d.Allowed {
		d.By += "; only the hub, the broker and admins publish here, so this has no effect: " + without
	}
	return d
}

// closed reports whether no rule allows publishing to a topic: those that the
// hub alone publishes, which agents obey and everybody believes, the orders to
// an agent, and the broker's own. Only a bridge's state below $SYS is what
// clients publish: bridges of mosquitto do.
func (p *Policy) closed(topic string) bool {
	if rest, ours := p.below(topic); ours {
		return coveredBy(hubPublishes, rest, Client{})
	}
	return strings.HasPrefix(topic, "$") && !covers(bridgeState, topic, Client{})
}

// bridgeState is where bridges of mosquitto publish whether they are connected.
const bridgeState = "$SYS/broker/connection/+/state"

// system reports whether a topic is one of the broker's own figures, at which
// not even an admin publishes.
func system(topic string) bool {
	return (topic == "$SYS" || strings.HasPrefix(topic, "$SYS/")) && !covers(bridgeState, topic, Client{})
}

// secret says why something is for admins alone, whatever the rules say; "" if
// it is not. Start commands carry the environment of services, with their
// passwords: beside admins the domain itself reads them. Some requests make an
// admin of anybody.
func (p *Policy) secret(c Client, a Action, topic string) string {
	rest, ours := p.below(topic)
	if !ours {
		return ""
	}
	kind, below, _ := strings.Cut(rest, "/")
	verb, _, _ := strings.Cut(below, "/")
	switch {
	case (kind == "request" || kind == "response") && topics.ForAdmins(verb):
		return "the request " + verb + " and its answers are for admins alone"
	case a == Publish, c.Role == RoleDomain && covers("domain/%u/#", rest, c):
		return ""
	case covers("domain/+/services/set", rest, c):
		return "start commands carry secrets: their domain and admins alone read them"
	}
	return ""
}

// below returns a topic without our prefix, and whether it has it.
func (p *Policy) below(topic string) (rest string, ours bool) {
	rest, ours = strings.CutPrefix(topic, p.prefix)
	if !ours || rest == "" {
		return "", ours
	}
	return strings.CutPrefix(rest, "/")
}

// decides tells whether a rule is about a client, an action and the whole of a
// topic or filter. A wildcard at the place of our prefix does not reach our
// topics, nor one at the first level those of the broker [MQTT-4.7.2-1]: who
// wants to open them names them.
func (r *rule) decides(p *Policy, c Client, a Action, topic string) bool {
	if !r.concerns(c) || !r.about(a) {
		return false
	}
	_, ours := p.below(topic)
	for _, f := range r.Topics {
		if ours && !r.Deny && !named(f, p.prefix) || topic != "" && topic[0] == '$' && f[0] != '$' {
			continue
		}
		if covers(f, topic, c) {
			return true
		}
	}
	return false
}

// named tells whether a filter begins with a prefix without a wildcard or a
// placeholder in it.
func named(filter, prefix string) bool {
	rest, ok := strings.CutPrefix(filter, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

func (r *rule) concerns(c Client) bool {
	if len(r.Users) == 0 && len(r.Roles) == 0 {
		return true
	}
	return slices.Contains(r.Users, c.User) || slices.Contains(r.Roles, c.Role)
}

func (r *rule) about(a Action) bool {
	return slices.Contains(r.Actions, a) || a == Deliver && slices.Contains(r.Actions, Subscribe)
}

// Unshared returns the filter of a shared subscription, $share/group/filter.
func Unshared(filter string) string {
	if len(filter) > 7 && strings.EqualFold(filter[:7], "$share/") {
		if _, rest, ok := strings.Cut(filter[7:], "/"); ok {
			return rest
		}
	}
	return filter
}
