package hub_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/identity/secrets"
	"github.com/jmbarzee/dominion/topics"
)

// A domain whose key was revoked is offline at once, though its agent goes on publishing, and the status
// says what to do, also once it is lost.
func TestStatusOfARevokedDomain(t *testing.T) {
	inSecretHome(t, func(h *home, _ *secrets.Identity, kitchen, _ *agent) {
		if v := h.domain("kitchen"); v.State != topics.DomainIsOnline {
			h.Fatalf("it is %s", v.State)
		}
		key := kitchen.key.member("kitchen", "w").KeyHash
		if r := h.ask(topics.VerbCertificates, `{"action":"revoke","key":"`+key+`"}`); r.Status != topics.StatusOK {
			h.Fatalf("%+v", r)
		}
		for _, state := range []topics.DomainState{topics.DomainIsOffline, topics.DomainIsLost} {
			v := h.domain("kitchen")
			if v.State != state || !strings.Contains(v.Problem, "was revoked") || !strings.Contains(v.Problem, "`domain reset`") {
				h.Errorf("it is %s, want %s: %s", v.State, state, v.Problem)
			}
			var problems []string
			overview, err := topics.Decode[topics.Overview]("the answer", h.ask(topics.VerbStatus, "").Data)
			if err != nil {
				h.Fatal(err)
			}
			for _, p := range overview.Problems {
				if strings.HasPrefix(p, "kitchen") {
					problems = append(problems, p)
				}
			}
			if len(problems) != 1 || !strings.Contains(problems[0], "was revoked") || strings.Contains(problems[0], "switched on") {
				h.Errorf("problems: %q", problems)
			}
			c := get[topics.Condition](h, h.tree.Domain(topics.DomainCondition, "kitchen"))
			if c.State != state || !strings.Contains(c.Reason, "was revoked") {
				h.Errorf("published: %+v", c)
			}
			time.Sleep(time.Minute)
		}
	})
}
