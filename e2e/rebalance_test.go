package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// After a power cut of everything the services of a home of three do not land on
// the machine that comes first, although the hub had lost the others before it
// went down itself; what has landed on one is spread anew by a rebalance.
func TestPowerCutOfEverything(t *testing.T) {
	home := onEmbedded(t)
	names := []string{"bell", "clock", "desk", "fan"}
	text := "[timing]\nsettle = \"10s\"\n"
	var domains []*Domain
	for _, n := range []string{"attic", "barn", "cellar"} {
		d := home.Domain(n)
		for _, s := range names {
			d.Install(s)
		}
		domains = append(domains, d)
	}
	for _, s := range names {
		text += service(s, `replicas = 1`, `priority = "required"`, `needs = { cpu = 4.0 }`) // more than the load of this machine
	}
	home.Configure(text)
	hub := home.StartHub()
	o := home.Observe()
	well := func(v View) bool {
		for _, s := range names {
			if !v.Healthy(s, 1) {
				return false
			}
		}
		return true
	}
	on := func(v View, domain string) (n int) {
		for _, s := range names {
			if e := v.Endpoints(s); len(e) > 0 && e[0].Domain == domain {
				n++
			}
		}
		return n
	}
	most := func(v View) (n int) {
		for _, d := range domains {
			n = max(n, on(v, d.Name))
		}
		return n
	}
	domains[0].Start()
	o.Until("all runs on the first", func(v View) bool { return well(v) && on(v, "attic") == len(names) })
	domains[1].Start()
	domains[2].Start()
	o.Until("the others are there", func(v View) bool { return v.Online("barn") && v.Online("cellar") })

	t.Log("spread anew")
	r := home.Ctl("rebalance", "--wait")
	if r.Code != 0 || strings.Count(r.Stdout, "moves ") != 2 {
		t.Errorf("rebalance: code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	o.Until("no machine has more than two", func(v View) bool { return well(v) && most(v) == 2 })

	t.Log("power cut of everything, the hub last")
	for _, d := range domains {
		d.PowerCut()
	}
	o.Until("the hub has lost them", func(v View) bool {
		for _, d := range domains {
			if !strings.Contains(v[fmt.Sprintf("dominion/domain/%s/condition", d.Name)].Payload, `"lost"`) {
				return false
			}
		}
		return true
	})
	hub.Kill()
	for _, d := range domains {
		d.LinkUp()
	}
	home.StartHub()
	o = home.Observe()
	domains[0].Start()
	o.Until("the first is back", func(v View) bool { return v.Online("attic") })
	domains[1].Start()
	domains[2].Start()
	o.Until("all runs, and no machine has more than two", func(v View) bool { return well(v) && most(v) == 2 })
}
