package isolation

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// monitor returns a monitor with a timeout of 10 s, the requests for a search so far,
// and its log.
func monitor(announcement func() func(context.Context) error) (m *Monitor, searches *[]bool, log *bytes.Buffer) {
	searches, log = new([]bool), new(bytes.Buffer)
	return New(Options{
		Timeout: 10 * time.Second, Search: func(on bool) { *searches = append(*searches, on) },
		Announcement: announcement, Log: slog.New(slog.NewTextHandler(log, nil)),
	}), searches, log
}

// A domain is lonely from its start on until a hub is reachable, and again when none
// was for the timeout.
func TestLonely(t *testing.T) {
	m, searches, log := monitor(nil)
	now := time.Now()
	m.Begin(now)
	m.SetReachable(false, now)
	if !m.Next().IsZero() || !slices.Equal(*searches, []bool{true}) {
		t.Errorf("at the start: next %v, searches %v", m.Next(), *searches)
	}
	m.SetReachable(true, now.Add(time.Minute))
	m.SetReachable(true, now.Add(2*time.Minute))
	if !m.Next().IsZero() || !slices.Equal(*searches, []bool{true, false}) {
		t.Errorf("with a hub: next %v, searches %v", m.Next(), *searches)
	}

	lost := now.Add(time.Hour)
	m.SetReachable(false, lost)
	m.SetReachable(false, lost.Add(9*time.Second))
	m.Expire(lost.Add(9999 * time.Millisecond))
	if !m.Next().Equal(lost.Add(10*time.Second)) || len(*searches) != 2 || log.Len() > 0 {
		t.Errorf("next is %v after the loss, searches %v", m.Next().Sub(lost), *searches)
	}
	m.SetTimeout(20 * time.Second)
	m.Expire(lost.Add(10 * time.Second))
	if len(*searches) != 2 {
		t.Error("lonely before the new timeout")
	}
	m.Expire(lost.Add(20 * time.Second))
	m.Expire(lost.Add(time.Hour))
	if !m.Next().IsZero() || !slices.Equal(*searches, []bool{true, false, true}) || strings.Count(log.String(), "lonely") != 1 {
		t.Errorf("next %v, searches %v, log %s", m.Next(), *searches, log)
	}
}

// A hub that comes back within the timeout leaves the domain as it was.
func TestShortAbsence(t *testing.T) {
	m, searches, _ := monitor(nil)
	now := time.Now()
	m.Begin(now)
	m.SetReachable(true, now)
	for range 10 {
		m.SetReachable(false, now)
		now = now.Add(9 * time.Second)
		m.Expire(now)
		m.SetReachable(true, now)
		m.Expire(now)
	}
	if !slices.Equal(*searches, []bool{true, false}) {
		t.Errorf("searches %v", *searches)
	}
}

// A lonely domain is announced after a moment, as it was when it became lonely, again
// after an error, and no longer than it is lonely.
func TestAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []string
		state, ended := "first", 0
		fails := make(chan error, 1)
		m, _, log := monitor(func() func(context.Context) error {
			announced := state
			return func(ctx context.Context) error {
				calls = append(calls, announced)
				select {
				case err := <-fails:
					return err
				default:
				}
				<-ctx.Done()
				ended++
				return nil
			}
		})
		m.Begin(time.Now())
		state = "second"
		time.Sleep(time.Second)
		m.SetReachable(true, time.Now())
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(calls) != 0 {
			t.Errorf("announced although it was lonely for a second only: %q", calls)
		}
		fails <- errors.New("no interface")
		m.SetReachable(false, time.Now())
		m.Expire(time.Now().Add(10 * time.Second))
		state = "third"
		time.Sleep(3 * time.Second)
		synctest.Wait()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !slices.Equal(calls, []string{"second", "second"}) || !strings.Contains(log.String(), `error="no interface"`) {
			t.Errorf("%q, log %s", calls, log)
		}
		m.SetReachable(true, time.Now())
		synctest.Wait()
		if ended != 1 {
			t.Error("announced although a hub is reachable")
		}
		m.Begin(time.Now())
		time.Sleep(3 * time.Second)
		synctest.Wait()
		m.Close()
		m.Close()
		if ended != 2 {
			t.Error("announced after Close")
		}
	})
}

// A domain that has no hub for the timeout is a stranger, also after its start, where it
// is lonely at once.
func TestStranger(t *testing.T) {
	var strange []bool
	m := New(Options{
		Timeout: 10 * time.Second, Search: func(bool) {}, Log: slog.New(slog.DiscardHandler),
		Stranger: func(on bool) { strange = append(strange, on) },
	})
	now := time.Now()
	m.Begin(now)
	m.Expire(now.Add(9 * time.Second))
	if len(strange) != 0 || !m.Next().Equal(now.Add(10*time.Second)) {
		t.Errorf("at the start: %v, next %v", strange, m.Next())
	}
	m.Expire(now.Add(10 * time.Second))
	if !slices.Equal(strange, []bool{true}) || !m.Next().IsZero() {
		t.Errorf("after the timeout: %v, next %v", strange, m.Next())
	}
	m.SetReachable(true, now.Add(20*time.Second))
	m.SetReachable(false, now.Add(30*time.Second))
	m.Expire(now.Add(39 * time.Second))
	m.SetReachable(true, now.Add(39*time.Second))
	if !slices.Equal(strange, []bool{true, false}) {
		t.Errorf("a hub that was away for a moment: %v", strange)
	}
	m.SetReachable(false, now.Add(40*time.Second))
	m.Expire(now.Add(50 * time.Second))
	m.Restart(now.Add(55 * time.Second)) // adopted by another dominion, which is not joined either
	m.Expire(now.Add(64 * time.Second))
	m.Expire(now.Add(65 * time.Second))
	if !slices.Equal(strange, []bool{true, false, true, true}) {
		t.Errorf("after another adoption: %v", strange)
	}
}
