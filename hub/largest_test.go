package hub

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/hub/publisher"
	"github.com/jmbarzee/dominion/hub/questions"
	"github.com/jmbarzee/dominion/topics"
)

// listening is a bus that hands on the answers to requests, and the command that the hub
// passes the request logs on with.
type listening struct{ answers chan topics.Message }

func (l listening) Publish(m topics.Message) {
	if strings.Contains(m.Topic, "/response/") || strings.HasSuffix(m.Topic, "/command") && strings.Contains(string(m.Payload), `"action":"logs"`) {
		l.answers <- m
	}
}

// inTown runs a test beside the loop of a hub with a broker of its own.
func inTown(t *testing.T, test func(h *Hub, answers <-chan topics.Message)) {
	t.Helper()
	b, err := broker.New(broker.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h := town(t, 20, 20)
	bus := listening{make(chan topics.Message, 1000)}
	h.pub, h.broker = publisher.New(bus, h.log), embedded{Broker: b}
	ctx, cancel := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { h.Run(ctx) })
	defer func() {
		cancel()
		loop.Wait()
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	test(h, bus.answers)
}

// The bounds of what one message may cost: the loop takes others again after
// longestTurn, and what is allocated is in proportion to the message. The
// first is generous, since the machine may have other things to do.
const (
	longestTurn  = 3 * time.Second
	bytesPerByte = 2000     // of a configuration that is parsed, planned and answered
	bytesOfTurn  = 64 << 20 // whatever the message, for the rest of the loop
	// moment is how long an answer is waited for before the loop is asked for a sign of life.
	moment = 10 * time.Millisecond
)

// costs delivers a message and checks what it costs. It looks until done
// reports true, and asks the loop for a sign of life all the while. done waits for a
// moment: signs of life allocate too, and a slow machine shall not ask for more of them.
func costs(t *testing.T, h *Hub, what string, m topics.Message, done func() bool) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.Deliver(m)
	for more := true; more; {
		more = !done()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*longestTurn)
		if _, err := h.figures(ctx); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		cancel()
		if took := time.Since(began); took > longestTurn {
			t.Errorf("%s: the loop took nothing for %v", what, took)
		}
	}
	runtime.ReadMemStats(&after)
	if used, most := after.TotalAlloc-before.TotalAlloc, uint64(len(m.Payload)*bytesPerByte+bytesOfTurn); used > most {
		t.Errorf("%s: %d bytes allocated for %d, at most %d", what, used, len(m.Payload), most)
	}
}

// largest are the greatest values that a field of a request can have, by kind.
func largest(f reflect.StructField) []any {
	switch f.Type.Kind() {
	case reflect.String:
		all := []any{strings.Repeat("a", topics.MaxText), strings.Repeat("a/", topics.MaxText/2), strings.Repeat("+/", topics.MaxText/2) + "#", strings.Repeat("a", 63)}
		if f.Name == "Config" {
			for _, text := range hostileConfigs() {
				all = append(all, text[:min(len(text), topics.MaxConfig)])
			}
		}
		return all
	case reflect.Int:
		return []any{math.MaxInt, math.MinInt}
	case reflect.Pointer:
		return []any{math.MaxInt32, math.MinInt32}
	default:
		return []any{true}
	}
}

// hostileConfigs cost a reader without limits seconds or gigabytes.
func hostileConfigs() []string {
	numbered := func(n int, format string) string {
		var all strings.Builder
		for i := range n {
			fmt.Fprintf(&all, format, i)
		}
		return all.String()
	}
	return []string{
		"x=" + strings.Repeat("[", topics.MaxConfig-2),
		strings.Repeat("a.", 25_000) + "a=1",
		"[services." + strings.Repeat("a", 120_000) + "]\n[services." + strings.Repeat("b", 120_000) + "]",
		"[services.a]\ndependencies=[" + numbered(5000, `"b%04d",`) + "]",
		numbered(500, "[services.service-%d]\ndependencies=[\"servce-x\",\"servce-y\",\"servce-z\"]\n"),
		numbered(4000, "[services.s%d]\npriority=\"required\"\n"),
		numbered(2000, "[services.s%d]\ndependencies=[\"s0\",\"s1\",\"s2\",\"s3\"]\n"),
		"[services.a]\nversion=\"" + strings.Repeat(">=1 ", 60_000) + "\"",
		"[services.a]\ndomains=[" + numbered(1000, `"d%d",`) + "]\npriority=\"required\"",
		numbered(1000, "[services.s%d]\ntraits=[\"a\",\"b\",\"c\"]\npriority=\"required\"\n"),
	}
}

// Whatever the verb, whatever the field, whatever its size: the loop goes on
// taking heartbeats, and memory is in proportion. Verbs and fields come from
// the contract, so that new ones are tried too.
func TestLargestRequests(t *testing.T) {
	inTown(t, func(h *Hub, answers <-chan topics.Message) {
		for _, verb := range topics.Verbs() {
			for _, f := range reflect.VisibleFields(reflect.TypeFor[topics.HubRequest]()) {
				if f.Name == "Transaction" {
					continue
				}
				key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				for _, value := range largest(f) {
					ask := map[string]any{"transaction": "t", "service": "service-01", "domain": "domain-0001", "user": "u", "action": "publish", "topic": "a/b", "name": "n", key: value}
					m := topics.Message{Topic: "dominion/request/" + verb.Name, Client: "c", Payload: topics.Encode(ask)}
					what := fmt.Sprintf("%s with %s of %.20v… (%d bytes)", verb.Name, key, value, len(m.Payload))
					costs(t, h, what, m, func() bool {
						select {
						case <-answers:
							return true
						case <-time.After(moment):
							return verb.Name == topics.VerbLogs // the domain answers
						}
					})
				}
			}
		}
	})
}

// What is too large to be a request is refused, and answered.
func TestNameOfAMegabyte(t *testing.T) {
	inTown(t, func(h *Hub, answers <-chan topics.Message) {
		for _, verb := range topics.Verbs() {
			payload := topics.Encode(topics.HubRequest{Transaction: "t", Service: strings.Repeat("a", topics.MaxPayload-100)})
			m := topics.Message{Topic: "dominion/request/" + verb.Name, Payload: payload}
			costs(t, h, verb.Name, m, func() bool {
				select {
				case a := <-answers:
					if r, err := topics.Decode[topics.Reply](a.Topic, a.Payload); err != nil || r.Status != topics.StatusError || len(r.Error) > 1000 {
						t.Errorf("%s: %.300q, %v", verb.Name, a.Payload, err)
					}
					return true
				case <-time.After(moment):
					return false
				}
			})
		}
	})
}

// Of the other messages that clients may publish the largest ones, too.
func TestLargestMessages(t *testing.T) {
	list := func(n int, entry string) string {
		all := make([]string, n)
		for i := range n {
			all[i] = fmt.Sprintf(entry, i)
		}
		return strings.Join(all, ",")
	}
	long := strings.Repeat("a", topics.MaxPayload-200)
	status := `{"id":"domain-0001","name":"domain-0001","protocol":"1.0","micro":%v,"traits":[%s],"services":[%s],"catalog":[%s]}`
	running := list(topics.MaxServices, `{"service":"s%d","state":"running","health":"healthy"}`)
	messages := map[string]string{
		"dominion/domain/domain-0001/status":                fmt.Sprintf(status, false, list(topics.MaxTraits, `"t%d"`), running, list(topics.MaxServices, `{"service":"s%d","version":"1.0.0"}`)),
		"dominion/domain/domain-0002/status":                fmt.Sprintf(status, false, "", "", list(100_000, `{"service":"s%d"}`)[:900_000]+`"}`),
		"dominion/domain/domain-0003/status":                strings.Repeat("[", topics.MaxPayload),
		"dominion/domain/domain-0004/status":                fmt.Sprintf(status, false, "", "", `{"service":"service-01","version":"1.0.0-`+strings.Repeat("a.", 400_000)+`a"}`),
		"dominion/domain/tiny/status":                       fmt.Sprintf(status, true, "", running, ""),
		"dominion/domain/domain-0005/metrics":               `{"services":{` + list(topics.MaxServices, `"s%d":{"cpu":1}`) + `}}`,
		"dominion/domain/domain-0005/heartbeat":             `{"id":"domain-0005","session":"` + long + `"}`,
		"dominion/domain/domain-0005/event":                 `{"type":"service_failed","message":"` + long + `"}`,
		"dominion/domain/domain-0005/response":              `{"transaction":"` + long + `"}`,
		"dominion/domain/domain-0005/availability":          long,
		"dominion/service/service-01/set":                   `{"replicas":1` + strings.Repeat("0", topics.MaxPayload-100) + `}`,
		"dominion/service/service-02/set":                   long,
		"dominion/service/" + long[:60_000] + "/set":        "ON",
		"dominion/request/" + long[:60_000]:                 "{}",
		"homeassistant/switch/" + long[:60_000] + "/config": `{"dev":{"ids":["x"]}}`,
		"homeassistant/device/many/config":                  `{"dev":{"ids":["x"]},"cmps":{` + list(20_000, `"c%d":{"p":"switch","stat_t":"a/%[1]d"}`) + `}}`,
		"homeassistant/switch/deep/config":                  strings.Repeat(`{"a":`, 200_000),
		"homeassistant/switch/template/config":              `{"dev":{"ids":["x"]},"avty":[` + list(20_000, `{"t":"a/%d","val_tpl":"{{ value }}"}`) + `]}`,
		"homeassistant/switch/other/config":                 `{"dev":{"ids":["y"]},"avty_t":"a/1","avty_tpl":"` + strings.Repeat("{{ value_json.a", 60_000) + `"}`,
		"zigbee2mqtt/bridge/devices":                        "[" + list(10_000, `{"ieee_address":"0x%016d","friendly_name":"f%[1]d"}`) + "]",
		"tasmota/discovery/AABBCCDDEEFF/config":             `{"mac":"AABBCCDDEEFF","dn":"` + long + `"}`,
		"esphome/discover/" + strings.Repeat("a", 100):      `{"name":"` + long + `"}`,
	}
	inTown(t, func(h *Hub, _ <-chan topics.Message) {
		for topic, payload := range messages {
			costs(t, h, fmt.Sprintf("%.60s (%d bytes)", topic, len(payload)), topics.Message{Topic: topic, Payload: []byte(payload)}, func() bool { return true })
		}
	})
}

// A question that nobody has time for is answered, and its plan given up.
func TestQuestionsHaveADeadline(t *testing.T) {
	h := town(t, 3, 3)
	bus := listening{make(chan topics.Message, 1)}
	h.pub = publisher.New(bus, h.log)
	now := time.Now()
	ask := topics.HubRequest{Transaction: "t", Without: "domain-0001"}
	if err := h.pending.questions.Put(questions.Question{Verb: topics.VerbPlan, Ask: ask, Asker: "c", Reply: h.replyTo(topics.VerbPlan, ask, topics.Message{}), Until: now}); err != nil {
		t.Fatal(err)
	}
	h.stepQuestions(now)
	if a := <-bus.answers; !strings.Contains(string(a.Payload), "took longer than 10s") || a.Topic != "dominion/response/plan" {
		t.Errorf("%s: %s", a.Topic, a.Payload)
	}
	one, err := h.suppose(topics.HubRequest{Without: "domain-0001"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	if _, ok := one.Plan(func() bool { asked++; return asked > 2 }); ok || asked > 4 {
		t.Errorf("planned to the end: %v, asked %d times", ok, asked)
	}
	if lines, ok := one.Plan(func() bool { return false }); !ok || len(lines) == 0 {
		t.Errorf("%v, %v", lines, ok)
	}
}
