package autoscale_test

import (
	"bufio"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/autoscale"
	"github.com/jmbarzee/dominion/services/transcript"
)

// TestTranscripts replays testdata/*.txt. "scale" describes, "begin N" begins
// with N instances that run; a line with a time is a step, and what it decides
// is indented below it. "due" steps when the last step asked to, with the same
// figure.
//
//	scale min=1 max=5 metric=mqtt:queue target=10 cooldown=1m age=1h
//	TIME said VALUE[@AGE] | said nothing | fault TEXT | deaf TEXT
//	TIME uses DOMAIN=VALUE[@AGE][+RAN] DOMAIN=? …
func TestTranscripts(t *testing.T) { transcript.Test(t, replay) }

func replay(t *testing.T, text string) string {
	var out strings.Builder
	var c services.Scale
	var s autoscale.State
	var f autoscale.Figure
	var o autoscale.Outcome
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "\t") {
			continue
		}
		fmt.Fprintln(&out, line)
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		now := o.Next
		switch words[0] {
		case "scale":
			c = scale(t, words[1:])
			continue
		case "begin":
			s = autoscale.Begin(c, int(value(t, words[1])))
			continue
		case "due":
			if now == 0 {
				t.Fatalf("%q: nothing is due", line)
			}
		default:
			now = duration(t, words[0])
			f = figure(t, words[1:])
		}
		s, o = autoscale.Step(c, s, f, now)
		if o.Number != s.Number {
			t.Errorf("%s: the number is %d and %d", line, o.Number, s.Number)
		}
		fmt.Fprintf(&out, "\t%s: %d, %s\n", now, o.Number, o.Reason)
		if o.Now != o.Reason {
			fmt.Fprintf(&out, "\tnow: %s\n", o.Now)
		}
		if o.Next > 0 {
			fmt.Fprintf(&out, "\tnext: %s\n", o.Next)
		}
	}
	return out.String()
}

func scale(t *testing.T, words []string) services.Scale {
	c := services.Scale{Min: 1, Cooldown: time.Minute}
	for _, w := range words {
		switch key, v, _ := strings.Cut(w, "="); key {
		case "min":
			c.Min = int(value(t, v))
		case "max":
			c.Max = int(value(t, v))
		case "metric":
			c.Metric = v
		case "target":
			c.Target = value(t, v)
		case "age":
			c.MaxAge = duration(t, v)
		case "cooldown":
			c.Cooldown = duration(t, v)
		default:
			t.Fatalf("unknown key %q", w)
		}
	}
	return c
}

func figure(t *testing.T, words []string) (f autoscale.Figure) {
	text := strings.Join(words[1:], " ")
	switch words[0] {
	case "said":
		if text != "nothing" {
			said, age, old := strings.Cut(text, "@")
			f.Sample = autoscale.Sample{Known: true, Value: value(t, said)}
			if old {
				f.Sample.Age = duration(t, age)
			}
		}
	case "fault":
		f.Sample.Fault = text
	case "deaf":
		f.Unavailable = text
	case "uses":
		for _, w := range words[1:] {
			domain, v, _ := strings.Cut(w, "=")
			i := autoscale.Instance{Domain: domain, Ran: time.Hour}
			if v != "?" {
				i.Reported = true
				v, ran, young := strings.Cut(v, "+")
				if young {
					i.Ran = duration(t, ran)
				}
				v, age, old := strings.Cut(v, "@")
				if old {
					i.Age = duration(t, age)
				}
				i.Value = value(t, v)
			}
			f.Instances = append(f.Instances, i)
		}
	default:
		t.Fatalf("unknown figure %q", words)
	}
	return f
}

func value(t *testing.T, s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func duration(t *testing.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What no figure may do, whatever it is.
func TestNothingLeavesTheBounds(t *testing.T) {
	for _, v := range []float64{0, -1, 1e-300, 1e300, math.MaxFloat64, -math.MaxFloat64, math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, metric := range []string{"cpu", "mqtt:a"} {
			c := services.Scale{Min: 2, Max: 4, Metric: metric, Target: 1e-9, Cooldown: time.Second}
			f := autoscale.Figure{
				Sample:    autoscale.Sample{Known: true, Value: v},
				Instances: []autoscale.Instance{{Domain: "a", Reported: true, Ran: time.Hour, Value: v}},
			}
			var s autoscale.State
			for now := time.Duration(0); now < 5*time.Minute; now += time.Second {
				var o autoscale.Outcome
				if s, o = autoscale.Step(c, s, f, now); o.Number < 2 || o.Number > 4 || o.Reason == "" || o.Now == "" {
					t.Fatalf("%s %v: %+v", metric, v, o)
				}
			}
		}
	}
}

func TestParse(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000)
	for _, tt := range []struct {
		payload, field string
		want           float64
		fault          string
	}{
		{"27", "", 27, ""},
		{" 27.5\n", "", 27.5, ""},
		{"-3e2", "", -300, ""},
		{"", "", 0, "it is empty"},
		{"many", "", 0, `"many" is not a number`},
		{"NaN", "", 0, `"NaN" is not a number`},
		{"Inf", "", 0, `"Inf" is not a number`},
		{"1e999", "", 0, `"1e999" is not a number`},
		{`{"queue": 1}`, "", 0, "is not a number"},
		{strings.Repeat("1", 100), "", 0, "is not a number"},
		{strings.Repeat(" ", autoscale.MaxPayload) + "1", "", 0, "bytes are too many"},
		{`{"queue": {"length": 27}}`, "queue.length", 27, ""},
		{`{"queue": {"length": "27"}}`, "queue.length", 27, ""},
		{`{"queues": [{"n": 1}, {"n": 2}]}`, "queues.1.n", 2, ""},
		{`[4, 5]`, "1", 5, ""},
		{`[4, 5]`, "2", 0, `a list of 2 has no "2"`},
		{`[4, 5]`, "-1", 0, `a list of 2 has no "-1"`},
		{`{"queue": {"length": 27}}`, "queue.size", 0, `there is no field "queue.size" in it: "size" is missing`},
		{`{"queue": 27}`, "queue.length", 0, `"length" is asked of something that is not an object`},
		{`{"queue": true}`, "queue", 0, `"true" is not a number`},
		{`{"queue": null}`, "queue", 0, `"null" is not a number`},
		{`{"queue": "NaN"}`, "queue", 0, `"NaN" is not a number`},
		{`{"queue": ""}`, "queue", 0, `it is empty`},
		{`{"queue": 27`, "queue", 0, `it is not JSON`},
		{`27`, "queue", 0, `is not an object`},
		{``, "queue", 0, `it is empty`},
		{deep, "a.a", 0, "is not a number"},
		{strings.Repeat("[", 60000), "0", 0, "it is not JSON"},
	} {
		got, err := autoscale.Parse([]byte(tt.payload), tt.field)
		switch {
		case tt.fault == "" && (err != nil || got != tt.want):
			t.Errorf("%.40q %s: %v, %v", tt.payload, tt.field, got, err)
		case tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault)):
			t.Errorf("%.40q %s: %v, %v, want %s", tt.payload, tt.field, got, err, tt.fault)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"2"}]}`), "a.1.b")
	f.Add([]byte("1"), "")
	f.Fuzz(func(t *testing.T, payload []byte, field string) {
		began := time.Now()
		if v, err := autoscale.Parse(payload, field); err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Errorf("%q %q is %v", payload, field, v)
		}
		if took := time.Since(began); took > 2*time.Second { // it takes microseconds
			t.Errorf("%d bytes took %v", len(payload), took)
		}
	})
}
