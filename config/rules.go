package config

import "github.com/jmbarzee/dominion/broker/access"

// rules reads [[broker.rules]], the owner's own rules of access, in their
// order.
func (t *table) rules(to *[]access.Rule) {
	for _, in := range t.tables("rules", "name") {
		*to = append(*to, in.rule())
	}
}

func (t *table) rule() access.Rule {
	defer t.close()
	var r access.Rule
	t.text("name", &r.Name)
	t.list("users", &r.Users)
	t.list("roles", &r.Roles)
	for _, role := range r.Roles {
		switch role {
		case RoleReader, RoleDevice, RoleDomain:
		case RoleAdmin:
			t.fault("roles", "take it out", "no rule binds the role admin: nobody is to lock himself out")
		default:
			t.fault("roles", "use reader, device or domain", "%s is no role", quote(role))
		}
	}
	var allow, deny []string
	t.list("allow", &allow)
	t.list("deny", &deny)
	r.Deny = len(deny) > 0
	for _, word := range append(allow, deny...) {
		a, ok := access.ParseAction(word)
		if !ok || a == access.Deliver { // subscribe stands for it
			key := "allow"
			if r.Deny {
				key = "deny"
			}
			t.fault(key, `use "publish" and "subscribe"`, "%s is no action", quote(word))
			continue
		}
		r.Actions = append(r.Actions, a)
	}
	switch {
	case !t.valid("allow") || !t.valid("deny"):
	case len(allow) > 0 && r.Deny:
		t.fault("deny", "make two rules of it", "allows and denies in one")
	case len(r.Actions) == 0:
		t.fault("", `write allow = ["publish", "subscribe"], or deny`, "the rule neither allows nor denies")
	}
	t.list("topics", &r.Topics)
	for _, filter := range r.Topics {
		if err := access.CheckFilter(filter); err != nil {
			t.fault("topics", `write filters, as "zigbee2mqtt/#" or "robots/%u/+"`, "%v", err)
		}
	}
	if len(r.Topics) == 0 && t.valid("topics") {
		t.fault("", `write topics = ["zigbee2mqtt/#"]`, "the rule names no topics")
	}
	return r
}
