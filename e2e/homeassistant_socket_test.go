package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// haSocket is a WebSocket on which Home Assistant tells every change.
type haSocket struct {
	conn  *websocket.Conn
	ended chan struct{} // closed when it is

	mu      sync.Mutex
	last    int
	answers map[int]chan haAnswer
	states  haStates
	events  []haState     // of event entities, of which each state is one
	more    chan struct{} // closed when the states have changed
}

type haAnswer struct {
	ID      int
	Type    string
	Success bool
	Result  json.RawMessage
	Error   json.RawMessage
	Event   struct {
		Data struct {
			Entity string   `json:"entity_id"`
			State  *haState `json:"new_state"`
		}
	}
}

// listen opens a WebSocket and returns when it has the states of all entities
// and hears of every change.
func (a *homeAssistant) listen() *haSocket {
	a.t.Helper()
	dialer := websocket.Dialer{NetDialContext: func(_ context.Context, network, address string) (net.Conn, error) {
		return a.host.Dial(network, address)
	}}
	conn, _, err := dialer.Dial("ws://127.0.0.1:"+haPort+"/api/websocket", nil)
	a.must(err)
	s := &haSocket{
		conn: conn, ended: make(chan struct{}), answers: make(map[int]chan haAnswer),
		states: make(haStates), more: make(chan struct{}),
	}
	a.t.Cleanup(s.close)
	var hello struct{ Type string }
	a.must(conn.ReadJSON(&hello)) // auth_required
	a.must(conn.WriteJSON(map[string]any{"type": "auth", "access_token": a.token}))
	a.must(conn.ReadJSON(&hello))
	if hello.Type != "auth_ok" {
		a.t.Fatalf("Home Assistant's WebSocket says %q to its token", hello.Type)
	}
	go s.read()
	a.must(s.ask("subscribe_events", map[string]any{"event_type": "state_changed"}, nil))
	var all []struct {
		haState
		Entity string `json:"entity_id"`
	}
	a.must(s.ask("get_states", nil, &all))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range all {
		if _, newer := s.states[e.Entity]; !newer {
			s.states[e.Entity] = e.haState
		}
	}
	return s
}

func (s *haSocket) close() {
	s.conn.Close()
	<-s.ended
}

func (s *haSocket) gone() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *haSocket) read() {
	defer close(s.ended)
	for {
		var m haAnswer
		if err := s.conn.ReadJSON(&m); err != nil {
			return
		}
		s.mu.Lock()
		switch d := m.Event.Data; {
		case m.Type == "result":
			if c := s.answers[m.ID]; c != nil {
				c <- m
			}
			delete(s.answers, m.ID)
		case m.Type == "event" && d.State == nil:
			delete(s.states, d.Entity)
		case m.Type == "event":
			s.states[d.Entity] = *d.State
			if strings.HasPrefix(d.Entity, "event.") && d.State.State != "unknown" && d.State.State != "unavailable" {
				s.events = append(s.events, *d.State)
			}
		}
		close(s.more)
		s.more = make(chan struct{})
		s.mu.Unlock()
	}
}

func (s *haSocket) look() (haStates, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.states), s.more
}

// happened are the events since it listens.
func (s *haSocket) happened() []haState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

func (s *haSocket) ask(kind string, fields map[string]any, answer any) error {
	s.mu.Lock()
	s.last++
	id, c := s.last, make(chan haAnswer, 1)
	s.answers[id] = c
	body := map[string]any{"id": id, "type": kind}
	maps.Copy(body, fields)
	err := s.conn.WriteJSON(body)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case m := <-c:
		if !m.Success {
			return fmt.Errorf("home assistant: %s: %s", kind, m.Error)
		}
		if answer == nil {
			return nil
		}
		return json.Unmarshal(m.Result, answer)
	case <-s.ended:
		return fmt.Errorf("home assistant: %s: the connection ended", kind)
	case <-time.After(time.Minute):
		return fmt.Errorf("home assistant: %s: no answer", kind)
	}
}
