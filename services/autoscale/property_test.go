package autoscale_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/autoscale"
)

// world is a service whose work is shared by as many instances as there are,
// and whose figure comes now and then, off by some noise.
type world struct {
	c      services.Scale
	r      *rand.Rand
	noise  float64
	s      autoscale.State
	last   autoscale.Outcome
	sample autoscale.Sample
	now    time.Duration
	turns  []int // the numbers, as they changed
	at     []time.Duration
}

func newWorld(seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 7))
	w := &world{r: r, c: services.Scale{
		Min: 1 + r.IntN(3), Metric: "mqtt:queue", Target: math.Exp(r.Float64()*12 - 6),
		Cooldown: time.Duration(1+r.IntN(120)) * time.Second,
	}}
	w.c.Max = w.c.Min + r.IntN(12)
	w.s = autoscale.Begin(w.c, r.IntN(w.c.Max+1))
	w.turns = []int{w.s.Number}
	return w
}

// live lets time pass under a load, in instances.
func (w *world) live(t *testing.T, load float64, within time.Duration) {
	t.Helper()
	for begin, end := w.now, w.now+within; w.now < end; {
		// the next figure, or what the last step asked for
		next := w.now + time.Duration(1+w.r.IntN(20_000))*time.Millisecond
		if due := w.last.Next; due > w.now && due < next && w.now > begin {
			w.now = due
		} else {
			w.now = next
			w.sample = autoscale.Sample{Known: true, Value: load * (1 + w.noise*(2*w.r.Float64()-1)) * w.c.Target}
			switch w.r.IntN(40) { // the worst that the noise can be
			case 0:
				w.sample.Value = load * (1 + w.noise) * w.c.Target
			case 1:
				w.sample.Value = load * (1 - w.noise) * w.c.Target
			}
		}
		was := w.s.Number
		w.s, w.last = autoscale.Step(w.c, w.s, autoscale.Figure{Sample: w.sample}, w.now)
		n := w.s.Number
		switch {
		case n < w.c.Min || n > w.c.Max:
			t.Fatalf("%d is not in %d to %d", n, w.c.Min, w.c.Max)
		case n > 2*was:
			t.Fatalf("%d after %d is more than double", n, was)
		case n != was:
			if k := len(w.at); k > 0 && w.now-w.at[k-1] < w.c.Cooldown {
				t.Fatalf("%d after %d, only %v after the last change; the cooldown is %v", n, was, w.now-w.at[k-1], w.c.Cooldown)
			}
			w.at, w.turns = append(w.at, w.now), append(w.turns, n)
		}
	}
}

// Under a load that does not change, but for noise of a tenth, the number goes
// up, then perhaps down, and never up again: it does not swing. It comes to
// rest where the load is neither too much nor too little.
func TestPlanConverges(t *testing.T) {
	for seed := range uint64(3000) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(seed)
			w.noise = []float64{0, 0.05, 0.1}[seed%3]
			for range 3 { // the load steps
				load := w.r.Float64() * float64(w.c.Max) * 1.3
				if w.r.IntN(5) == 0 {
					load = float64(w.r.IntN(w.c.Max + 1)) // exactly what some take
				}
				first := len(w.turns) - 1
				w.live(t, load, 12*w.c.Cooldown+time.Minute)
				fell := false
				for i := first + 1; i < len(w.turns); i++ {
					up := w.turns[i] > w.turns[i-1]
					if up && fell {
						t.Fatalf("load %.3f with noise %v: it swings: %v", load, w.noise, w.turns[first:])
					}
					fell = fell || !up
				}
				n := float64(w.s.Number)
				if load*(1+w.noise) > n*1.1+1e-6 && load > n && w.s.Number < w.c.Max && w.noise == 0 {
					t.Fatalf("load %.3f: %v are too few after %v", load, n, w.turns)
				}
				// the highest figure of any cooldown allowed one fewer
				if load*(1+w.noise) < (n-1)*0.9-1e-6 && w.s.Number > w.c.Min {
					t.Fatalf("load %.3f with noise %v: %v are too many after %v", load, w.noise, n, w.turns)
				}
			}
		})
	}
}

// More is answered at once, and fewer only after a cooldown in which nothing
// called for more.
func TestUpAtOnceDownLater(t *testing.T) {
	c := services.Scale{Min: 1, Max: 9, Metric: "mqtt:q", Target: 10, Cooldown: time.Minute}
	sample := func(v float64) autoscale.Figure {
		return autoscale.Figure{Sample: autoscale.Sample{Known: true, Value: v}}
	}
	s, o := autoscale.Step(c, autoscale.Begin(c, 2), sample(40), 5*time.Second)
	if o.Number != 4 {
		t.Fatalf("%+v", o)
	}
	for i := range 59 { // one spike a minute is enough to keep them
		v := 5.0
		if i%50 == 49 {
			v = 38
		}
		if s, o = autoscale.Step(c, s, sample(v), time.Minute+time.Duration(i)*time.Second); o.Number != 4 {
			t.Fatalf("after %d s: %+v", i, o)
		}
	}
}

// Weeks of figures that come, go, are old or nonsense: the number holds.
func TestFiguresThatFail(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 9))
		c := services.Scale{Min: 1, Max: 6, Metric: "cpu", Target: 0.7, Cooldown: time.Minute}
		s := autoscale.Begin(c, 1+r.IntN(6))
		var now time.Duration
		for range 400 {
			now += time.Duration(r.IntN(30_000)) * time.Millisecond
			var f autoscale.Figure
			counted := 0
			for i := range r.IntN(7) {
				one := autoscale.Instance{
					Domain: fmt.Sprint("d", i), Reported: r.IntN(4) > 0, Age: time.Duration(r.IntN(90)) * time.Second,
					Ran: time.Duration(r.IntN(60)) * time.Second, Value: r.Float64(),
				}
				if one.Reported && one.Age < autoscale.Stale && one.Ran >= 29*time.Second {
					counted++
				}
				f.Instances = append(f.Instances, one)
			}
			was := s.Number
			var o autoscale.Outcome
			s, o = autoscale.Step(c, s, f, now)
			switch {
			case counted == 0 && o.Number != was:
				t.Fatalf("seed %d: %d after %d, and nothing is counted", seed, o.Number, was)
			case counted < len(f.Instances) && o.Number < was:
				t.Fatalf("seed %d: fewer, and not all is counted: %s", seed, o.Reason)
			case o.Number < 1 || o.Number > 6 || o.Reason == "" || o.Now == "":
				t.Fatalf("seed %d: %+v", seed, o)
			}
		}
	}
}
