package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A service follows its stick: pulled out of one machine and put into another,
// it runs there within 5 s, and is told the path. A retained word and a command
// make traits, too.
func TestServiceFollowsItsStick(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		home.Configure(service("zigbee", `priority = "required"`, `traits = ["zigbee-stick"]`, "port = 8080") +
			service("night", `priority = "required"`, `traits = ["at-night"]`) +
			service("fast", `priority = "required"`, `traits = ["gpu"]`))
		var all []*Domain
		for _, name := range []string{"kitchen", "cellar"} {
			d := home.Domain(name)
			d.Configure(nil, fmt.Sprintf(`
[traits_from]
zigbee-stick = %q
at-night = { mqtt = "home/mode", payload = "night" }
gpu = { command = ["test", "-e", %q], interval = "1s" }
`, filepath.Join(d.Dir, "by-id", "*Sonoff*"), filepath.Join(d.Dir, "gpu")))
			d.must(os.MkdirAll(filepath.Join(d.Dir, "by-id"), 0o755))
			d.InstallShell("zigbee")
			d.InstallShell("night")
			d.InstallShell("fast")
			all = append(all, d)
		}
		stick := func(d *Domain) string { return filepath.Join(d.Dir, "by-id", "usb-ITead_Sonoff_Zigbee-if00") }
		kitchen, cellar := all[0], all[1]
		kitchen.must(os.WriteFile(stick(kitchen), nil, 0o600))
		_, _, o := home.Up(all...)
		runsOn := func(service, domain string) func(View) bool {
			return func(v View) bool {
				return v.Healthy(service, 1) && v.Service(service).Instances[0].Domain == domain
			}
		}
		o.Until("it runs where the stick is", runsOn("zigbee", "kitchen"))

		// by hand, from one machine to the other
		kitchen.must(os.Remove(stick(kitchen)))
		cellar.must(os.WriteFile(stick(cellar), nil, 0o600))
		plugged := time.Now()
		o.Until("it has followed its stick", runsOn("zigbee", "cellar"))
		if start := home.Journal.Await(t, 2, "start", "zigbee"); start.Domain != "cellar" || start.At.Sub(plugged) > 5*time.Second {
			t.Errorf("it runs on %s after %v, want the cellar and 5 s at most", start.Domain, start.At.Sub(plugged))
		}
		pid := o.Latest().Instance("cellar", "zigbee").PID
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		cellar.must(err)
		if want := "TRAIT_ZIGBEE_STICK=" + stick(cellar) + "\x00"; !strings.Contains(string(environment), want) {
			t.Errorf("it is not told %q", want)
		}

		home.Publish("home/mode", "night", "-r")
		o.Until("a retained word starts it everywhere", func(v View) bool { return v.Healthy("night", 2) })
		home.Publish("home/mode", "day", "-r")
		o.Until("another word ends it", func(v View) bool { return len(v.Service("night").Instances) == 0 })

		kitchen.must(os.WriteFile(filepath.Join(kitchen.Dir, "gpu"), nil, 0o600))
		o.Until("a command that succeeds starts it", runsOn("fast", "kitchen"))
		if w := o.Latest().Service("zigbee"); w.State != topics.Running {
			t.Errorf("the other one was disturbed: %+v", w)
		}
	})
}
