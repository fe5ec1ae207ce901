package config

import "github.com/jmbarzee/dominion/broker/access"

// rules reads [[broker.rules]], the owner's own rules of access, in their
// order.
func (t *table) rules(to *[]access.Rule) {
	for _, in := range t.tables("rules", "name") {
		*to = append(*to, in.rule())
	}
}

// ruleText is a rule as a file has it.
type ruleText struct {
	Name                               string
	Users, Roles, Allow, Deny, Filters []string
}

// ruleSettings returns the keys of an element of [[broker.rules]].
func ruleSettings() []setting[*ruleText] {
	return []setting[*ruleText]{
		{
			key: "name", of: func(r *ruleText) any { return &r.Name },
			doc: "shown where the rule decides",
		},
		{
			key: "users", of: func(r *ruleText) any { return &r.Users },
			doc: "whom it binds, by name; without `users` and `roles`: everybody but admins",
		},
		{
			key: "roles", of: func(r *ruleText) any { return &r.Roles }, check: ruleRoles,
			doc: "whom it binds, by role: `\"reader\"`, `\"device\"`, `\"domain\"`",
		},
		{
			key: "allow", of: func(r *ruleText) any { return &r.Allow },
			doc: "what it permits: `\"publish\"`, `\"subscribe\"`",
		},
		{
			key: "deny", of: func(r *ruleText) any { return &r.Deny },
			doc: "what it refuses. A rule has either `allow` or `deny`",
		},
		{
			key: "topics", of: func(r *ruleText) any { return &r.Filters }, check: ruleFilters,
			usual: "required",
			doc:   "filters, with `%u` for the user and `%c` for the client id: [rules of your own](../how-to/access-rules.md)",
		},
	}
}

func ruleRoles(t *table, key string, v any) {
	for _, role := range *v.(*[]string) {
		switch role {
		case RoleReader, RoleDevice, RoleDomain:
		case RoleAdmin:
			t.fault(key, "take it out", "no rule binds the role admin: nobody is to lock himself out")
		default:
			t.fault(key, "use reader, device or domain", "%s is no role", quote(role))
		}
	}
}

func ruleFilters(t *table, key string, v any) {
	for _, filter := range *v.(*[]string) {
		if err := access.CheckFilter(filter); err != nil {
			t.fault(key, `write filters, as "zigbee2mqtt/#" or "robots/%u/+"`, "%v", err)
		}
	}
}

// rule reads an element of [[broker.rules]]. A fault in one of its keys is reported once:
// what follows from that key is not judged.
func (t *table) rule() access.Rule {
	defer t.close()
	var text ruleText
	readElement(t, ruleSettings(), &text)
	r := access.Rule{Name: text.Name, Users: text.Users, Roles: text.Roles, Deny: len(text.Deny) > 0, Topics: text.Filters}
	key := "allow"
	if r.Deny {
		key = "deny"
	}
	for _, word := range append(text.Allow, text.Deny...) {
		a, ok := access.ParseAction(word)
		if !ok || a == access.Deliver { // subscribe stands for it
			t.fault(key, `use "publish" and "subscribe"`, "%s is no action", quote(word))
			continue
		}
		r.Actions = append(r.Actions, a)
	}
	if t.valid("allow") && t.valid("deny") {
		if len(text.Allow) > 0 && r.Deny {
			t.fault("deny", "make two rules of it", "allows and denies in one")
		} else if len(r.Actions) == 0 {
			t.fault("", `write allow = ["publish", "subscribe"], or deny`, "the rule neither allows nor denies")
		}
	}
	if len(r.Topics) == 0 && t.valid("topics") {
		t.fault("", `write topics = ["zigbee2mqtt/#"]`, "the rule names no topics")
	}
	return r
}
