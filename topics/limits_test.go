package topics

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// listOf is a payload with a list or object of n entries.
func listOf(format string, n int, entry string) string {
	var all strings.Builder
	for i := range n {
		if i > 0 {
			all.WriteByte(',')
		}
		fmt.Fprintf(&all, entry, i)
	}
	return fmt.Sprintf(format, all.String())
}

// Each list and object of a payload that a client sends has its greatest
// length: it is taken with that, and refused, with topic and field, beyond.
func TestLengthsAreBounded(t *testing.T) {
	for _, c := range []struct {
		field, format, entry string
		most                 int
		decode               func(topic string, payload []byte) error
	}{
		{"services", `{"services":[%s]}`, `{"service":"s%d"}`, MaxServices, refusal[Domain]},
		{"catalog", `{"catalog":[%s]}`, `{"service":"s%d"}`, MaxServices, refusal[Domain]},
		{"traits", `{"traits":[%s]}`, `"t%d"`, MaxTraits, refusal[Domain]},
		{"addresses", `{"addresses":[%s]}`, `"host-%d"`, MaxAddresses, refusal[Domain]},
		{"services", `{"services":{%s}}`, `"s%d":{}`, MaxServices, refusal[Metrics]},
		{"services", `{"services":{%s}}`, `"s%d":{}`, MaxServices, refusal[StartCommand]},
		{"services.environment", `{"services":{"a":{"environment":{%s}}}}`, `"S%d":""`, MaxVariables, refusal[StartCommand]},
		{"services.dependencies", `{"services":{"a":{"dependencies":{%s}}}}`, `"s%d":"10.0.0.1:80"`, MaxDependencies, refusal[StartCommand]},
	} {
		if err := c.decode("t", []byte(listOf(c.format, c.most, c.entry))); err != nil {
			t.Errorf("%s: %v", c.field, err)
		}
		if err := c.decode("t", []byte(listOf(c.format, c.most+1, c.entry))); err == nil || !strings.Contains(err.Error(), "cannot read t: field "+c.field+": ") {
			t.Errorf("one more of %s: %v", c.field, err)
		}
	}
}

// refusal is the error with which a payload is refused as a T.
func refusal[T any](topic string, payload []byte) error {
	_, err := Decode[T](topic, payload)
	return err
}

// Every text of a request has its greatest length, also those that are added.
func TestTextsOfRequestsAreBounded(t *testing.T) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[HubRequest]()) {
		if f.Type.Kind() != reflect.String || f.Name == "Config" {
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		most := MaxText
		switch f.Name {
		case "KeyList":
			most = MaxConfig
		case "TOML":
			most = MaxDefinitions
		}
		if f.Name == "Last" {
			most = MaxLast
		}
		_, err := Decode[HubRequest]("t", fmt.Appendf(nil, `{%q:%q}`, key, strings.Repeat("a", most+1)))
		if err == nil || !strings.Contains(err.Error(), "cannot read t: field "+key+": ") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Of any payload that a client can send, reading it costs memory in proportion
// to its size: the smallest elements are the most.
func TestSmallElements(t *testing.T) {
	const most = 64 << 20
	for _, payload := range []string{
		`{"services":[` + strings.Repeat(`{},`, MaxPayload/3-10) + `{}]}`,
		`{"catalog":[` + strings.Repeat(`{},`, MaxPayload/3-10) + `{}]}`,
		`{"traits":[` + strings.Repeat(`"",`, MaxPayload/3-10) + `""]}`,
		`{"services":{` + listOf("%s", 60_000, `"%x":{}`) + `}}`,
		`{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`,
		`{` + strings.Repeat(`"traits":[""],`, 60_000) + `"id":""}`,
		`{"id":"` + strings.Repeat(`\"`, MaxPayload/2-10) + `"}`,
		`{"replicas":1` + strings.Repeat("0", MaxPayload-100) + `,"seq":1}`,
		`{"id":1` + strings.Repeat("0", MaxPayload-100) + `}`,
		`{"at":"` + strings.Repeat("0", MaxPayload-100) + `"}`,
		`{"services":{"` + strings.Repeat("a", MaxPayload-100) + `":1}}`,
	} {
		for name, decode := range map[string]func(string, []byte) error{
			"status": refusal[Domain], "metrics": refusal[Metrics], "start command": refusal[StartCommand], "request": refusal[HubRequest],
			"heartbeat": refusal[Heartbeat], "event": refusal[Event], "reply": refusal[Reply], "device": refusal[Device],
		} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			err := decode("t", []byte(payload))
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > most || took > 5*time.Second {
				t.Errorf("%.30s as %s: %d bytes, %v", payload, name, used, took)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("%.30s as %s: an error of %d bytes", payload, name, len(err.Error()))
			}
		}
	}
}
