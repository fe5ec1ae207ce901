package hub_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/jmbarzee/dominion/topics"
)

// answers collects the answers to plan by transaction, in their order.
func (h *home) answers() func() (order []string, all map[string]topics.Reply) {
	var mu sync.Mutex
	var order []string
	all := make(map[string]topics.Reply)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered = func(m topics.Message) {
		if m.Topic != "dominion/response/plan" {
			return
		}
		r, err := topics.Decode[topics.Reply](m.Topic, m.Payload)
		if err != nil {
			h.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		order = append(order, r.Transaction)
		all[r.Transaction] = r
	}
	return func() ([]string, map[string]topics.Reply) {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return order, all
	}
}

func question(client, transaction string) topics.Message {
	return topics.Message{Topic: "dominion/request/plan", Client: client, Payload: topics.Encode(topics.HubRequest{Transaction: transaction, Config: "[services.web]\n"})}
}

// Every question is answered, one that is too many with an error; who asks a
// lot waits behind who asks little, and takes nobody's place.
func TestQuestionsAreFair(t *testing.T) {
	inHome(t, pair, func(h *home) {
		answers := h.answers()
		for i := range 20 {
			h.hub.Deliver(question("greedy", fmt.Sprintf("greedy-%d", i)))
		}
		for i := range 5 {
			h.hub.Deliver(question(fmt.Sprintf("modest-%d", i), fmt.Sprintf("modest-%d", i)))
		}
		order, all := answers()
		if len(all) != 25 || len(order) != 25 {
			h.Fatalf("%d answers to 25 questions: %q", len(order), order)
		}
		refused := 0
		for transaction, r := range all {
			switch {
			case r.Status == topics.StatusOK:
			case strings.HasPrefix(transaction, "modest"):
				h.Errorf("%s: %s", transaction, r.Error)
			case !strings.Contains(r.Error, "ask again when they are answered"):
				h.Errorf("%s: %s", transaction, r.Error)
			default:
				refused++
			}
		}
		if refused < 15 {
			h.Errorf("%d of 20 questions of one asker were refused", refused)
		}
	})
}

func TestQueueOfQuestionsIsShort(t *testing.T) {
	inHome(t, pair, func(h *home) {
		answers := h.answers()
		for i := range 100 {
			h.hub.Deliver(question(fmt.Sprint("c", i), fmt.Sprint("t", i)))
		}
		_, all := answers()
		refused := 0
		for _, r := range all {
			if r.Status == topics.StatusError {
				refused++
				if !strings.Contains(r.Error, "too many such questions wait") {
					h.Error(r.Error)
				}
			}
		}
		if len(all) != 100 || refused < 50 {
			h.Errorf("%d answers, %d refusals", len(all), refused)
		}
	})
}

// A hub that ends while somebody asks ends, and takes its goroutine along.
func TestQuestionsEndWithTheHub(t *testing.T) {
	inHome(t, pair, func(h *home) {
		for i := range 10 {
			h.hub.Deliver(question(fmt.Sprint("c", i), fmt.Sprint("t", i)))
		}
	})
}
