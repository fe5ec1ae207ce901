package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// A queue that grows and shrinks takes a service from one machine to three and
// back, on either broker. The hub may be killed in between, and a reload may
// move the figure into a field of JSON at another topic.
func TestScaleByTheLengthOfAQueue(t *testing.T) {
	onEachBroker(t, func(t *testing.T, home *Home) {
		domains := []*Domain{home.Domain("kitchen"), home.Domain("cellar"), home.Domain("attic")}
		for _, d := range domains {
			d.Install("worker")
		}
		worker := func(figure string) string {
			return service("worker", `priority = "required"`, `scale = { min = 1, max = 3, target = 10, cooldown = "3s", `+figure+` }`)
		}
		home.Configure(worker(`metric = "mqtt:home/queue"`))
		hub, _, o := home.Up(domains...)
		home.Publish("home/queue", "4", "-r")
		scaled := func(n int, because string) {
			t.Helper()
			o.Until(because, func(v View) bool {
				s := v.Service("worker")
				return s.Wanted == n && len(s.Instances) == n && v.Healthy("worker", n) && strings.Contains(s.Reason, because)
			})
			eventually(t, fmt.Sprintf("%d live, as is said", n), func() bool { return len(home.Journal.Running(t)) == n })
		}
		scaled(1, "stays at 1: home/queue says 4, one takes 10")

		t.Log("up, at most double at once")
		mark := o.Now()
		home.Publish("home/queue", "27")
		scaled(3, "scaled to 3: home/queue says 27, one takes 10")
		first := o.AwaitEvent(mark, "dominion/hub/event", topics.ServiceScaled, "", "worker")
		if !strings.Contains(first.Message, "scaled to 2") {
			t.Errorf("the first change was %q", first.Message)
		}
		why := home.Ctl("why", "worker")
		if why.Code != 0 || !strings.Contains(why.Stdout, "scaled to 3: home/queue says 27") {
			t.Errorf("why says %q", why.Stdout)
		}

		t.Log("a hub that was killed begins with what runs, though nobody has told it a figure")
		before, starts := home.Lives(o)
		home.Publish("home/queue", "", "-r")
		hub.Kill()
		hub = home.StartHub()
		o = home.Observe()
		scaled(3, "stays at 3: nothing was published at home/queue yet")
		awaitLiveHeartbeat(o, o.Now(), "kitchen")
		home.Journal.Undisturbed(t, "after the hub was killed", before, starts)

		t.Log("nonsense keeps the number")
		home.Publish("home/queue", "a lot")
		scaled(3, `"a lot" is not a number`)
		home.Journal.Undisturbed(t, "after nonsense", before, starts)

		t.Log("down, after a cooldown")
		home.Publish("home/queue", "2")
		scaled(1, "scaled to 1: home/queue says 2, one takes 10")

		t.Log("a field of JSON at another topic, since a reload")
		home.Publish("home/broker", `{"queues": [{"waiting": "25"}]}`, "-r")
		mark = o.Now()
		home.Configure(worker(`metric = "mqtt:home/broker", field = "queues.0.waiting"`))
		hub.Signal(syscall.SIGHUP)
		o.AwaitEvent(mark, "dominion/hub/event", topics.ConfigReloaded, "", "")
		scaled(3, "scaled to 3: home/broker says 25, one takes 10")
		home.Publish("home/queue", "2")

		t.Log("a person's number beats it")
		if r := home.Ctl("scale", "worker", "2"); r.Code != 0 {
			t.Fatalf("scale: %s", r.Stderr)
		}
		scaled(2, "2 by order")
		if r := home.Ctl("scale", "worker", "0"); r.Code != 0 {
			t.Fatalf("scale: %s", r.Stderr)
		}
		scaled(3, "scaled to 3: home/broker says 25")
		home.Publish("home/broker", `{"queues": [{"waiting": 0}]}`)
		scaled(1, "scaled to 1: home/broker says 0, one takes 10")
	})
}

// A service that keeps a processor busy is given a second machine: what its
// processes use, also those that it starts, is what counts.
func TestScaleByTheProcessor(t *testing.T) {
	home := onEmbedded(t)
	kitchen, cellar := home.Domain("kitchen"), home.Domain("cellar")
	for _, d := range []*Domain{kitchen, cellar} {
		// children that work for a tenth of a second, again and again: no process is old
		d.Write("miner", "Makefile", "run:\n\t@exec sh ./run.sh\n")
		d.Write("miner", "run.sh", "while :; do timeout 0.1 sh -c 'while :; do :; done'; sleep 0.4; done\n")
	}
	home.Configure(service("miner", `priority = "required"`, `scale = { max = 2, metric = "cpu", target = 0.02, cooldown = "5s" }`))
	_, _, o := home.Up(kitchen, cellar)
	o.Until("miner is scaled to 2 by what it uses", func(v View) bool {
		return v.Healthy("miner", 2) && strings.Contains(v.Service("miner").Reason, "scaled to 2: 1 instance uses")
	})
}
