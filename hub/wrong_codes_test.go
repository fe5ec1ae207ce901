package hub_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/keys"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// Wrong codes are slowed for all who use the control socket together: each run of
// dominionctl is another client there.
func TestWrongCodesAreSlowedOnTheControlSocket(t *testing.T) {
	inHome(t, "", func(h *home) {
		h.stop()
		h.setup = func(s *store.Store, o *hub.Options) {
			k, err := keys.Open(keys.Options{
				DataDir: h.dataDir, Dominion: s.ID(), Name: "home", Lifetime: 24 * time.Hour, Log: slog.New(slog.DiscardHandler),
				Names: func() (identity.Names, error) { return identity.MakeNames("hub", nil), nil },
			})
			if err != nil {
				h.Fatal(err)
			}
			o.Broker, o.Keys = ownBroker{}, k
		}
		h.start()
		key, err := identity.NewKey()
		if err != nil {
			h.Fatal(err)
		}
		hash, err := identity.HashKey(&key.PublicKey)
		if err != nil {
			h.Fatal(err)
		}
		a, err := adoption.NewApplicant(adoption.ApplicantOptions{Key: key, Protocol: topics.Protocol, ID: "6f1c1a52-0000-4000-8000-000000000001", Name: "pi", Recipient: ageRecipient})
		if err != nil {
			h.Fatal(err)
		}
		a.SetMeans(adoption.Means{Code: make(adoption.CodeKey, 32)})
		question := func() {
			q, err := a.Question()
			if err != nil {
				h.Fatal(err)
			}
			h.hub.DeliverApplicant(topics.Message{Topic: "dominion/request/join", Payload: topics.Encode(adoption.ToHub{Question: &q})}, "192.168.1.7")
			synctest.Wait()
		}
		adopt := func(client string) (r topics.Reply) {
			m := topics.Message{Topic: "dominion/request/adopt", Payload: []byte(`{"domain":"pi","code":"K7QF-2M9X-4T1R"}`), Client: client}
			h.hub.DeliverPrivate(m, func(m topics.Message) {
				if err := json.Unmarshal(m.Payload, &r); err != nil {
					h.Error(err)
				}
			})
			synctest.Wait()
			answers := "dominion/response/join/" + hash
			if v, err := adoption.DecodeToDomain(answers, []byte(h.last(answers))); err == nil && v.Answer != nil {
				if _, err := a.Answer(*v.Answer, "hub", time.Now()); err != nil && !errors.Is(err, adoption.ErrWrongCode) && !errors.Is(err, adoption.ErrTooSoon) {
					h.Error(err)
				}
			}
			question() // it says that it refused the code
			return r
		}
		question()
		if r := adopt("dominionctl-1"); !strings.Contains(r.Error, "the code is wrong") {
			h.Errorf("%+v", r)
		}
		if r := adopt("dominionctl-2"); !strings.Contains(r.Error, "too many wrong codes") {
			h.Errorf("another client may try at once: %+v", r)
		}
	})
}
