package topics

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

const topic = "dominion/domain/pi/status"

// decodeAs decodes a payload into the type of a sample value.
func decodeAs(sample any, payload []byte) (any, error) {
	v := reflect.New(reflect.TypeOf(sample))
	err := json.Unmarshal(payload, v.Interface())
	return v.Elem().Interface(), err
}

func TestSamplesSurviveTheWire(t *testing.T) {
	for _, e := range Catalog() {
		payload, ok := samples()[e.Kind]
		if !ok {
			t.Errorf("%s: no sample", e.Pattern)
			continue
		}
		if e.Payload == nil {
			continue
		}
		v, err := decodeAs(e.Payload, payload)
		if err != nil {
			t.Errorf("%s: %v", e.Pattern, err)
			continue
		}
		if again := Encode(v); !bytes.Equal(again, payload) {
			t.Errorf("%s:\nsent  %s\nagain %s", e.Pattern, payload, again)
		}
		if bytes.Contains(payload, []byte("null")) || bytes.ContainsAny(payload, "\n") {
			t.Errorf("%s: %s", e.Pattern, payload)
		}
	}
}

func TestDecodeIgnoresUnknownKeys(t *testing.T) {
	d, err := Decode[Domain](topic, []byte(`{"name":"pi","new_thing":{"a":[1]},"services":[{"service":"web","later":1}]}`))
	if err != nil || d.Name != "pi" || len(d.Services) != 1 || d.Services[0].Service != "web" {
		t.Errorf("%+v, %v", d, err)
	}
	d, err = Decode[Domain](topic, microSample)
	if err != nil || !d.Micro || d.Services[0].State != Running || d.Services[0].Port != 80 {
		t.Errorf("a microdomain: %+v, %v", d, err)
	}
	// null is what some JSON libraries write for "not there".
	d, err = Decode[Domain](topic, []byte(`{"name":"pi","traits":null,"started_at":null,"services":null}`))
	if err != nil || !d.StartedAt.IsZero() {
		t.Errorf("nulls: %+v, %v", d, err)
	}
}

func TestDecodeErrorsNameTopicAndField(t *testing.T) {
	domain := func(b string) error { _, err := Decode[Domain](topic, []byte(b)); return err }
	command := func(b string) error { _, err := Decode[StartCommand](topic, []byte(b)); return err }
	beat := func(b string) error { _, err := Decode[Heartbeat](topic, []byte(b)); return err }
	metrics := func(b string) error { _, err := Decode[Metrics](topic, []byte(b)); return err }
	for _, tt := range []struct {
		decode  func(string) error
		payload string
		want    string
	}{
		{domain, `{"name":7}`, `field name: number is not a string`},
		{domain, `{"micro":"yes"}`, `field micro: string is not true or false`},
		{domain, `{"traits":"npbar"}`, `field traits: string is not a list`},
		{domain, `{"services":{}}`, `field services: object is not a list`},
		{domain, `{"services":[{"service":"a","state":1}]}`, `field services.state: number is not a string`},
		{domain, `{"services":[{"port":"80"}]}`, `field services.port: string is not a whole number`},
		{domain, `{"services":[{"port":80.5}]}`, `field services.port: number 80.5 is not a whole number`},
		{domain, `{"started_at":17}`, `field started_at: 17 is not a time such as "2026-01-02T15:04:05.000Z"`},
		{domain, `{"started_at":"yesterday"}`, `field started_at: "yesterday" is not a time`},
		{domain, `{"services":[{"since":"2026"}]}`, `field services.since: "2026" is not a time`},
		{domain, `[]`, `the payload: array is not an object`},
		{domain, `"online"`, `the payload: string is not an object`},
		{domain, `online`, `invalid character 'o'`},
		{domain, ``, `unexpected end of JSON input`},
		{domain, `{"name":"pi"`, `unexpected end of JSON input`},
		{command, `{"timing":{"heartbeat":"1s"}}`, `field timing.heartbeat: "1s" is not a number of seconds from 0 to 100000000`},
		{command, `{"timing":{"heartbeat":-1}}`, `field timing.heartbeat: -1 is not a number of seconds`},
		{command, `{"timing":{"settle":1e9}}`, `field timing.settle: 1e9 is not a number of seconds`},
		{command, `{"services":[]}`, `field services: array is not an object`},
		{command, `{"services":{"web":{"environment":{"A":1}}}}`, `environment: number is not a string`},
		{beat, `{"seq":-1}`, `field seq: number -1 is not a whole number from 0`},
		{beat, `{"seq":18446744073709551616}`, `field seq: number 18446744073709551616 is not a whole number from 0`},
		{metrics, `{"load1":"low"}`, `field load1: string is not a number`},
	} {
		err := tt.decode(tt.payload)
		if err == nil {
			t.Errorf("%s was taken", tt.payload)
			continue
		}
		if got := err.Error(); !strings.HasPrefix(got, "cannot read "+topic+": ") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.payload, got, tt.want)
		}
	}
	if _, err := Decode[Domain](topic, make([]byte, MaxPayload+1)); err == nil || !strings.Contains(err.Error(), topic) {
		t.Errorf("a payload that is too large: %v", err)
	}
	if v, err := Decode[Domain](topic, []byte(`{"name":"pi","micro":1}`)); err == nil || v.Name != "" {
		t.Errorf("a half read payload came back: %+v, %v", v, err)
	}
}

func TestEncodeIsWhatPeopleAndTemplatesRead(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want string
	}{
		{[]Endpoint(nil), `[]`},
		{[]DomainView(nil), `[]`},
		{Service{Service: "web"}, `"instances":[]`},
		{Domain{}, `"traits":[],"draining":false,"services":[],"catalog":[]`},
		{Overview{Domains: []DomainView{{}}}, `"traits":[],"services":[],"catalog":[]}],"services":[],"problems":[]`},
		{StartCommand{}, `"services":{}`},
		{StartCommand{Services: map[string]Spec{"a": {}}}, `"services":{"a":{"revision":""`},
		{&Why{}, `"domains":[]`},
		{Metrics{Load1: math.NaN(), Temperature: ptr(math.Inf(1)), Services: map[string]Usage{"a": {CPU: math.Inf(-1)}}}, `"load1":0,`},
		{Event{Message: "a < b & c"}, `a < b & c`},
		{Event{Message: "\xff"}, `"message":"` + `\ufffd"`},
		{Accept("t", nil), `{"transaction":"t","status":"ok"}`},
		{Accept("t", []PlanLine(nil)), `"data":[]`},
		{nil, `null`},
	} {
		if got := string(Encode(tt.v)); !strings.Contains(got, tt.want) {
			t.Errorf("%T: %s, want %s", tt.v, got, tt.want)
		}
	}
	// What is encoded may be shared with others: it must stay as it is.
	shared := Overview{Domains: []DomainView{{Name: "pi"}}}
	Encode(shared)
	if shared.Domains[0].Traits != nil || shared.Problems != nil {
		t.Errorf("Encode changed its argument: %+v", shared)
	}
	usage := map[string]Usage{"a": {CPU: math.NaN()}}
	Encode(Metrics{Services: usage})
	if !math.IsNaN(usage["a"].CPU) {
		t.Error("Encode changed a map of its argument")
	}
}

func TestTime(t *testing.T) {
	moment := time.Date(2026, 1, 2, 16, 4, 5, 123_456_789, time.FixedZone("CET", 3600))
	if got := string(Encode(At(moment))); got != `"2026-01-02T15:04:05.123Z"` {
		t.Error(got)
	}
	if got := string(Encode(Time{moment})); got != `"2026-01-02T15:04:05.123Z"` {
		t.Error(got)
	}
	if v, err := Decode[Time](topic, Encode(At(moment))); err != nil || v != At(moment) {
		t.Errorf("what At gives does not survive the wire: %v, %v", v, err)
	}
	for in, want := range map[string]string{
		`"2026-01-02T15:04:05Z"`:                `"2026-01-02T15:04:05.000Z"`,
		`"2026-01-02T15:04:05.5+02:00"`:         `"2026-01-02T13:04:05.500Z"`,
		`"2026-01-02T15:04:05.123456789-11:30"`: `"2026-01-03T02:34:05.123Z"`,
		`"0001-01-01T00:00:00.000Z"`:            `"0001-01-01T00:00:00.000Z"`,
		`null`:                                  `"0001-01-01T00:00:00.000Z"`,
	} {
		v, err := Decode[Time](topic, []byte(in))
		if got := string(Encode(v)); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{
		`""`, `"2026-01-02"`, `"2026-01-02T15:04:05"`, `"2026-13-02T15:04:05Z"`, `1767366245`, `{}`,
		`"0000-01-01T00:00:00+23:00"`, `"9999-12-31T23:59:59-01:00"`, `"` + strings.Repeat("9", 9000) + `"`,
	} {
		if v, err := Decode[Time](topic, []byte(in)); err == nil {
			t.Errorf("%.40s was taken as %v", in, v)
		} else if len(err.Error()) > 200 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
	if b, _ := json.Marshal(Instance{}); bytes.Contains(b, []byte("since")) {
		t.Errorf("a zero time is written: %s", b)
	}
}

func TestSeconds(t *testing.T) {
	for in, want := range map[Seconds]string{
		0: "0", Seconds(time.Second): "1", Seconds(500 * time.Millisecond): "0.5", Seconds(time.Minute): "60",
		Seconds(1234567 * time.Microsecond): "1.235", Seconds(100 * time.Microsecond): "0",
	} {
		if got := string(Encode(in)); got != want {
			t.Errorf("%v: %s, want %s", in.Duration(), got, want)
		}
	}
	for in, want := range map[string]time.Duration{
		"0": 0, "0.5": 500 * time.Millisecond, "1.1": 1100 * time.Millisecond, "2.001": 2001 * time.Millisecond,
		"1e2": 100 * time.Second, "100000000": 1e8 * time.Second, "null": 0,
	} {
		if got, err := Decode[Seconds](topic, []byte(in)); err != nil || got.Duration() != want {
			t.Errorf("%s: %v, %v; want %v", in, got.Duration(), err, want)
		}
	}
	for _, in := range []string{"-0.1", "100000001", "1e400", `"1s"`, "{}", "true"} {
		if got, err := Decode[Seconds](topic, []byte(in)); err == nil {
			t.Errorf("%s was taken as %v", in, got.Duration())
		}
	}
}

func TestReplies(t *testing.T) {
	r := Refuse("t", json.Unmarshal([]byte("x"), new(int)))
	if r.Status != StatusError || r.Error == "" || r.Transaction != "t" {
		t.Errorf("%+v", r)
	}
	grant := Grant{Dominion: homeID, Name: "home", Epoch: 3}
	r, err := Decode[Reply](topic, Encode(Accept("t", grant)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode[Grant](topic, r.Data); err != nil || !reflect.DeepEqual(got, grant) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTransactionOf(t *testing.T) {
	for payload, want := range map[string]string{
		`{"transaction":"t","service":5}`: "t",
		`{"service":5}`:                   "",
		`{"transaction":7}`:               "",
		`{"transaction":null}`:            "",
		`{"transaction":"t"`:              "",
		`["transaction"]`:                 "",
		`null`:                            "",
		``:                                "",
	} {
		if got := TransactionOf([]byte(payload)); got != want {
			t.Errorf("%s: %q, want %q", payload, got, want)
		}
	}
}

// FuzzDecode: whatever arrives, Decode does not panic, and what it takes can be
// written and read again and is then the same.
func FuzzDecode(f *testing.F) {
	for _, payload := range samples() {
		f.Add([]byte(payload))
	}
	f.Add([]byte(microSample))
	f.Add([]byte(`{"at":"0000-01-01T00:00:00+23:00"}`))
	f.Add([]byte(`{"services":null,"data":null,"timing":{"settle":0.0005}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		again[Hub](t, payload)
		again[Event](t, payload)
		again[Heartbeat](t, payload)
		again[Metrics](t, payload)
		again[Domain](t, payload)
		again[StartCommand](t, payload)
		again[Lease](t, payload)
		again[Command](t, payload)
		again[Reply](t, payload)
		again[LogLine](t, payload)
		again[Service](t, payload)
		again[[]Endpoint](t, payload)
		again[Scale](t, payload)
		again[HubRequest](t, payload)
		again[Overview](t, payload)
		again[Why](t, payload)
	})
}

func again[T any](t *testing.T, payload []byte) {
	v, err := Decode[T](topic, payload)
	if err != nil {
		if !strings.HasPrefix(err.Error(), "cannot read "+topic+": ") {
			t.Errorf("the error does not name the topic: %v", err)
		}
		return
	}
	first := Encode(v)
	w, err := Decode[T](topic, first)
	if err != nil {
		t.Fatalf("%T: cannot read what was written of %q: %s: %v", v, payload, first, err)
	}
	if second := Encode(w); !bytes.Equal(first, second) {
		t.Errorf("%T: %s became %s", v, first, second)
	}
}
