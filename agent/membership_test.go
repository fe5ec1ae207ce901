package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func mustOpen(t testing.TB, o membershipOptions) *membership {
	t.Helper()
	m, err := openMembership(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	return m
}

// adoptBy has a hub adopt a domain by a token, and returns the word that the domain got.
func adoptBy(t testing.TB, m *membership, u *adopter, url string) string {
	t.Helper()
	token := u.makeToken()
	if err := m.Apply(""); err != nil {
		t.Fatal(err)
	}
	m.application.SetToken(&token)
	carry(t, m, u, url)
	m.End()
	return m.Word()
}

// carry carries the messages between a domain that asks and a hub, until that has adopted it.
func carry(t testing.TB, m *membership, u *adopter, url string) {
	t.Helper()
	up, _ := m.Topics()
	adopted := false
	var send func(out []link.ToHub)
	u.send = func(_ string, v adoption.ToDomain) {
		out, done := m.Receive(url, topics.Message{Topic: up, Payload: topics.Encode(v)})
		adopted = adopted || done
		send(out)
	}
	send = func(out []link.ToHub) {
		for _, message := range out {
			u.receive(topics.Message{Topic: up, Payload: message.Payload})
		}
	}
	q, err := m.Question()
	if err != nil {
		t.Fatal(err)
	}
	send([]link.ToHub{{URL: url, Payload: q}})
	if !adopted || u.confirmed == 0 {
		t.Fatalf("adopted %v, confirmed %d: %s", adopted, u.confirmed, m.logged)
	}
}

// waiting returns a membership that asks, and the configuration by which commands reach
// it through its socket.
func waiting(t *testing.T) (*membership, config.Domain) {
	t.Helper()
	c := config.Domain{Name: "pi", DataDir: t.TempDir()}
	a := New(Options{Config: c})
	m := mustOpen(t, membershipOptions{Config: c, ID: "3f2b8c1e-0000-4000-8000-000000000001", Session: "s", Log: discard(), Address: func() string { return "" }})
	if err := m.Apply(""); err != nil {
		t.Fatal(err)
	}
	a.membership <- m
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.ServeCommands(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return m, c
}

// exitOf returns the exit code of a command.
func exitOf(err error) int {
	var refused *CommandError
	if errors.As(err, &refused) {
		return refused.Exit
	}
	if err != nil {
		return -1
	}
	return 0
}

// await waits for the socket of an agent.
func await(t *testing.T, c config.Domain) {
	t.Helper()
	file := filepath.Join(c.DataDir, identity.Directory, socketFile)
	for ctx := t.Context(); ; {
		if info, err := os.Stat(file); err == nil && info.Mode()&os.ModeSocket != 0 {
			return
		}
		if !sleep(ctx, time.Millisecond) {
			t.Fatal("no socket")
		}
	}
}

// domain code prints the code of an agent that reaches a hub; --new makes another one. One
// that belongs to a dominion shows none.
func TestCodeCommand(t *testing.T) {
	m, c := waiting(t)
	await(t, c)
	m.Asks("mqtt://192.0.2.1:1883", nil)
	first, err := Code(t.Context(), c, false)
	if err != nil || first != m.code.String() {
		t.Errorf("%q, %v", first, err)
	}
	second, err := Code(t.Context(), c, true)
	if err != nil || second == first || second != m.code.String() {
		t.Errorf("--new: %q after %q, %v", second, first, err)
	}
	topic, _ := m.Topics()
	m.Receive("mqtt://192.0.2.1:1883", topics.Message{Topic: topic, Payload: topics.Encode(adoption.ToDomain{Error: "the key was revoked: run `domain reset` on pi"})})
	if code, note, err := ShowCode(t.Context(), c, false); err != nil || code != second || !strings.Contains(note, "domain reset") {
		t.Errorf("refused by a hub: %q, %q, %v", code, note, err)
	}
	adoptBy(t, m, newAdopter(t, "d1", 0), "mqtt://192.0.2.1:1883")
	if text, err := Code(t.Context(), c, false); exitOf(err) != ExitRefused || text != "" || !strings.Contains(err.Error(), `belongs to dominion "home"`) {
		t.Errorf("adopted: %q, %v", text, err)
	}
	info, err := os.Stat(filepath.Join(c.DataDir, identity.Directory))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory of the socket: %v, %v", info.Mode(), err)
	}
}

// Without an agent there is no code, and what domain join was given is left for the next.
func TestCommandsWithoutAgent(t *testing.T) {
	c := config.Domain{Name: "pi", DataDir: t.TempDir()}
	if text, err := Code(t.Context(), c, false); exitOf(err) != ExitRefused || text != "" || !strings.Contains(err.Error(), "no agent runs here") {
		t.Errorf("%q, %v", text, err)
	}
	u := newAdopter(t, "d1", 0)
	token := u.makeToken("192.0.2.1")
	began := time.Now()
	if _, err := Join(t.Context(), c, &token, began); exitOf(err) != ExitNoHub || !strings.Contains(err.Error(), "no agent runs here") {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took >= JoinTimeout {
		t.Errorf("it waits %v for an agent", took)
	}
	m := mustOpen(t, membershipOptions{Config: c, ID: "3f2b8c1e-0000-4000-8000-000000000001", Session: "s", Log: discard(), Address: func() string { return "" }})
	if err := m.Apply(""); err != nil {
		t.Fatal(err)
	}
	if got := m.Addresses(); m.tokens.current() == nil || m.tokens.current().String() != token.String() || len(got) != 1 || got[0][0] != "mqtts://192.0.2.1:8883" {
		t.Errorf("the next agent does not use it: %v", got)
	}
	hub, err := adoption.NewToken(u.own.Authority.RootHash(), adoption.ForHub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), c, &hub, time.Now()); exitOf(err) != ExitRefused {
		t.Errorf("a hub's token: %v", err)
	}
}

// domain join TOKEN ends when the domain is adopted, or when a hub refuses it; domain join
// open opens the domain's window.
func TestJoinCommand(t *testing.T) {
	m, c := waiting(t)
	await(t, c)
	u := newAdopter(t, "d1", 0)
	type result struct {
		dominion string
		err      error
	}
	run := func(token *adoption.Token) chan result {
		done := make(chan result, 1)
		go func() {
			dominion, err := Join(t.Context(), c, token, time.Now())
			done <- result{dominion, err}
		}()
		for waits := false; !waits; {
			<-m.Changed()
			m.mu.Lock()
			waits = len(m.waiters) > 0
			m.mu.Unlock()
		}
		m.Expire()
		return done
	}
	hear := func(v adoption.ToDomain) {
		up, _ := m.Topics()
		m.Receive("mqtt://192.0.2.1:1883", topics.Message{Topic: up, Payload: topics.Encode(v)})
	}
	token := u.makeToken()
	done := run(&token)
	if m.tokens.current().String() != token.String() {
		t.Error("the token is not used at once")
	}
	hear(adoption.ToDomain{Error: "the token has been used"})
	if r := <-done; exitOf(r.err) != ExitRefused || !strings.Contains(r.err.Error(), "has been used") {
		t.Errorf("%+v", r)
	}
	done = run(nil)
	if !m.application.IsOpen() {
		t.Error("its window is not open")
	}
	adoptBy(t, m, u, "mqtt://192.0.2.1:1883")
	if r := <-done; r.err != nil || r.dominion != "home" {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(m.domain.Store().Path(joinFile)); !os.IsNotExist(err) {
		t.Errorf("the order is left: %v", err)
	}
	if a := m.awaitJoin(t.Context()); a.Joined != "home" {
		t.Errorf("adopted before the command reached the agent: %+v", a)
	}
	if _, err := Join(t.Context(), c, &token, time.Now()); exitOf(err) != ExitRefused || !strings.Contains(err.Error(), "domain reset") {
		t.Errorf("adopted: %v", err)
	}
}

// A token that a hub refuses makes room for the next one, and is used again when there is
// no other.
func TestRefusedTokenMakesRoom(t *testing.T) {
	m, c := waiting(t)
	u := newAdopter(t, "d1", 0)
	first, second := u.makeToken(), u.makeToken()
	now := time.Now()
	m.tokens.file, m.tokens.more = filepath.Join(c.DataDir, "first"), []string{filepath.Join(c.DataDir, "second")}
	if err := errors.Join(adoption.WriteTokenFile(m.tokens.file, first), adoption.WriteTokenFile(m.tokens.more[0], second)); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		refusal string
		want    adoption.Token
	}{{"", first}, {"used", second}, {"used", first}} {
		m.tokens.next = time.Time{}
		m.tokens.look(now, step.refusal)
		if m.tokens.current() == nil || m.tokens.current().String() != step.want.String() {
			t.Errorf("step %d: another token", i)
		}
	}
}

// The token of a card that a hub has refused is removed when the domain is adopted in another
// way; one that was not refused, and that of the configuration, stay.
func TestRefusedTokenOfCardIsRemoved(t *testing.T) {
	for _, refusal := range []string{"it is for another name", ""} {
		m, c := waiting(t)
		u := newAdopter(t, "d1", 0)
		card, own := filepath.Join(c.DataDir, "card"), filepath.Join(c.DataDir, "own")
		m.tokens.file, m.tokens.more, m.tokens.once = "", []string{card, own}, []string{card}
		if err := errors.Join(adoption.WriteTokenFile(card, u.makeToken()), adoption.WriteTokenFile(own, u.makeToken())); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		m.tokens.next = time.Time{}
		m.tokens.look(now, "")
		m.tokens.look(now, refusal)
		m.tokens.used(false)
		if _, err := os.Stat(card); os.IsNotExist(err) != (refusal != "") {
			t.Errorf("refused for %q: the card's token: %v", refusal, err)
		}
		if _, err := os.Stat(own); err != nil {
			t.Errorf("refused for %q: %v", refusal, err)
		}
	}
}

// domain code waits for an agent that was just started, as it waits for a hub.
func TestCodeWaitsForItsAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config.Domain{Name: "pi", DataDir: t.TempDir()}
		if _, err := identity.OpenStore(c.DataDir); err != nil {
			t.Fatal(err)
		}
		var code string
		done := make(chan error, 1)
		go func() {
			var err error
			code, err = Code(t.Context(), c, false)
			done <- err
		}()
		synctest.Wait() // it has tried once
		select {
		case err := <-done:
			t.Fatalf("it does not wait: %v", err)
		default:
		}
		path, release, err := socketPath(c.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		time.Sleep(pollInterval)
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(conn).Encode(answer{Code: "K7QF-2M9X-4T1R"}); err != nil {
			t.Error(err)
		}
		conn.Close()
		if err := <-done; err != nil || code != "K7QF-2M9X-4T1R" {
			t.Errorf("%q, %v", code, err)
		}
	})
}

// Any program in the network can refuse a domain, and say so as often and in such words as it
// likes: neither fills the log, nor does anything but text reach a terminal.
func TestRefusalsOfStrangers(t *testing.T) {
	var log bytes.Buffer
	o := membershipOptions{
		Config: config.Domain{Name: "pi", DataDir: t.TempDir()}, ID: "3f2b8c1e-0000-4000-8000-000000000001", Session: "s",
		Log: slog.New(slog.NewTextHandler(&log, nil)), Address: func() string { return "" },
	}
	m := mustOpen(t, o)
	if err := m.Apply(""); err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		said := topics.Encode(adoption.ToDomain{Error: fmt.Sprint("\x1b[2J\n", n, strings.Repeat("x", 1000))})
		m.Receive("mqtt://hub", topics.Message{Topic: "dominion/response/join/x", Payload: said})
	}
	if n := strings.Count(log.String(), "refuses this domain"); n == 0 || n > maxReports || log.Len() > 20_000 {
		t.Errorf("%d lines of %d bytes", n, log.Len())
	}
	if r := m.application.Refusal(); strings.ContainsAny(r, "\x1b\n") || !strings.Contains(r, "[2J 999x") || len(r) > 600 {
		t.Errorf("%q", r)
	}
}

// An address of a token is tried as its port says: MQTT's own ports are with TLS or without.
func TestAddressesOfAToken(t *testing.T) {
	u := newAdopter(t, "d1", 0)
	token := u.makeToken("192.0.2.1", "192.0.2.1:1883", "192.0.2.1:8883", "192.0.2.1:1884", "127.0.0.1:1884")
	want := [][]string{
		{"mqtts://192.0.2.1:8883"},
		{"mqtt://192.0.2.1:1883"},
		{"mqtts://192.0.2.1:8883"},
		{"mqtts://192.0.2.1:1884", "mqtt://192.0.2.1:1884"},
		{"mqtt://127.0.0.1:1884", "mqtts://127.0.0.1:1884"},
	}
	if got := (&tokens{found: &token}).addresses(); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The login screen says that a hub refuses the domain, and not in the hub's words: any program in
// the network can be that hub. It shows the code all the same, for another one.
func TestLoginScreenOfARefusedDomain(t *testing.T) {
	screen := filepath.Join(t.TempDir(), "issue.d", "dominion.issue")
	m := mustOpen(t, membershipOptions{
		Config: config.Domain{Name: "pi", DataDir: t.TempDir()}, ID: "3f2b8c1e-0000-4000-8000-000000000001", Session: "s", Log: discard(),
		Address: func() string { return "" }, IssueFile: screen, Unit: true,
	})
	if err := m.Apply(""); err != nil {
		t.Fatal(err)
	}
	m.Expire()
	shown := func() string {
		b, err := os.ReadFile(screen)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(screen); err != nil || info.Mode() != 0o600 {
			t.Errorf("others of the machine can read the code: %v, %v", info.Mode(), err)
		}
		return string(b)
	}
	want := "On the hub's machine: sudo dominionctl adopt pi " + m.code.String()
	if text := shown(); !strings.Contains(text, want) || strings.Contains(text, "refuses") {
		t.Errorf("it shows %q", text)
	}
	topic, _ := m.Topics()
	m.Receive("mqtt://192.0.2.1:1883", topics.Message{Topic: topic, Payload: topics.Encode(adoption.ToDomain{Error: "call this number"})})
	if text := shown(); !strings.Contains(text, want) || !strings.Contains(text, "A hub refuses it: `sudo domain code` says why.") || strings.Contains(text, "number") {
		t.Errorf("refused it shows %q", text)
	}
	m.End()
	if _, err := os.Stat(screen); !os.IsNotExist(err) {
		t.Errorf("afterwards: %v", err)
	}
}

// The agent's loop hears what was pinned before any join can use it: else it would obey the first
// orders unsigned, and forget the hub that the handshake has verified.
func TestPinnedBeforeAJoin(t *testing.T) {
	calls := 0
	var m *membership
	m = mustOpen(t, membershipOptions{
		Config: config.Domain{Name: "pi", DataDir: t.TempDir()}, ID: "3f2b8c1e-0000-4000-8000-000000000001", Session: "s",
		Log: discard(), Address: func() string { return "" },
		Pinned: func() {
			calls++
			if m.pinned.Load() == nil {
				t.Error("nothing is pinned")
			}
			if m.mu.TryLock() {
				m.mu.Unlock()
				t.Error("a join can see it already")
			}
		},
	})
	adoptBy(t, m, newAdopter(t, "d1", 24*time.Hour), "mqtt://hub")
	if calls != 1 {
		t.Errorf("called %d times", calls)
	}
}
