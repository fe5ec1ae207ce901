package client

import (
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/broker/wire"
	"github.com/jmbarzee/dominion/topics"
)

// A refused request is answered where its answer is expected; what is none is left to
// the log.
func TestAnswerRefused(t *testing.T) {
	tree := topics.NewTree("home")
	for _, c := range []struct {
		topic, payload string
		code           byte
		private        bool
		to, want       string // "": no answer
	}{
		{topic: "home/request/status", payload: `{"transaction":"t1"}`, code: wire.NotAuthorized, to: "home/response/status", want: "the broker refused home/request/status of user ann"},
		{topic: "home/request/join", payload: `{"transaction":"t1","response_topic":"home/response/join/pi"}`, code: wire.NotAuthorized, to: "home/response/join/pi", want: "the broker refused home/request/join of user ann"},
		{topic: "home/domain/pi/command", payload: `{"transaction":"t1"}`, code: wire.NotAuthorized, to: "home/domain/pi/response", want: "the broker refused home/domain/pi/command of user ann"},
		{topic: "home/request/status", payload: `{"transaction":"t1"}`, code: wire.QuotaExceeded, to: "home/response/status", want: "home/request/status is not accepted by the broker: later"},
		{topic: "home/request/user", payload: `{"transaction":"t1"}`, code: wire.NotAuthorized, to: "home/response/user", want: "the request user is private"},
		{topic: "home/request/user", payload: `{"transaction":"t1"}`, code: wire.NotAuthorized, private: true, to: "home/response/user", want: "the broker refused home/request/user of user ann"},
		{topic: "home/request/status", payload: `{}`, code: wire.NotAuthorized},
		{topic: "home/request/status", payload: `x`, code: wire.NotAuthorized},
		{topic: "home/domain/pi/status", payload: `{"transaction":"t1"}`, code: wire.NotAuthorized},
		{topic: "other/request/status", payload: `{"transaction":"t1"}`, code: wire.NotAuthorized},
	} {
		var answers []topics.Message
		ok := AnswerRefused(tree, "ann", c.private, func(m topics.Message) { answers = append(answers, m) })(topics.Message{Topic: c.topic, Payload: []byte(c.payload)}, Refusal{Code: c.code, Reason: "later"})
		if ok != (c.to != "") || len(answers) > 1 || ok != (len(answers) == 1) {
			t.Errorf("%s %s: %v, %d answers", c.topic, c.payload, ok, len(answers))
		} else if ok && (answers[0].Topic != c.to || !strings.Contains(string(answers[0].Payload), c.want)) {
			t.Errorf("%s %s: answered at %s with %s", c.topic, c.payload, answers[0].Topic, answers[0].Payload)
		}
	}
}
