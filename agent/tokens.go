package agent

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// tokenInterval is how often it is looked whether there is a token by now.
const tokenInterval = time.Second

// joinFile is the file of data_dir/identity in which `domain join` leaves what it was
// given, for the agent that runs or the next one.
const joinFile = "join.json"

// joinOrder is the content of joinFile.
type joinOrder struct {
	Token string `json:"token,omitempty"`
	// OpenUntil is when the domain's own window closes.
	OpenUntil time.Time `json:"open_until,omitzero"`
}

// tokens are the tokens by which a domain may join: that of `domain join` first, then
// that of the configuration, then those that other files hold. If a hub refuses one, the
// next one is used.
type tokens struct {
	dir  *identity.Store
	file string
	more []string
	// once are those of more that are removed after use.
	once []string
	log  *slog.Logger

	// found is the token in use; nil: there is none. from is the file that it is of.
	found *adoption.Token
	from  string
	// refused are texts of tokens that a hub refused.
	refused map[string]bool
	// openUntil is when the domain's own window closes; zero: it is closed.
	openUntil time.Time
	// next is when it is looked again.
	next time.Time
	// logged is what was logged last.
	logged string
}

// current returns the token in use.
func (t *tokens) current() *adoption.Token { return t.found }

// look reads the files of tokens if that is due, and reports whether another one is in
// use than before. refusal is why a hub refuses the one in use; "": none does.
func (t *tokens) look(now time.Time, refusal string) bool {
	if refusal != "" && t.found != nil {
		if t.refused == nil {
			t.refused = make(map[string]bool)
		}
		t.refused[t.found.String()] = true
	} else if now.Before(t.next) {
		return false
	}
	t.next = now.Add(tokenInterval)
	before := t.found
	t.found, t.from = nil, ""
	order, _, err := atomicfile.ReadJSON[joinOrder](t.dir.Path(joinFile), t.log)
	if err != nil {
		t.report(err)
	}
	t.openUntil = order.OpenUntil
	if !now.Before(order.OpenUntil) || order.OpenUntil.Sub(now) > adoption.DomainWindow { // over, or the clock was set
		t.openUntil = time.Time{}
	}
	var second *adoption.Token // refused, but there is no other
	var secondFrom string
	take := func(token adoption.Token, from string) {
		if token.Use != adoption.ForDomain || t.found != nil {
			return
		}
		if !t.refused[token.String()] {
			t.found, t.from = &token, from
		} else if second == nil {
			second, secondFrom = &token, from
		}
	}
	if order.Token != "" {
		if token, err := adoption.ParseToken(order.Token); err == nil {
			take(token, t.dir.Path(joinFile))
		}
	}
	for _, file := range append([]string{t.file}, t.more...) {
		if file == "" {
			continue
		}
		token, err := adoption.ReadTokenFile(file)
		if err == nil {
			take(token, file)
		} else if file == t.file || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			t.report(err)
		}
	}
	if t.found == nil {
		t.found, t.from = second, secondFrom
	}
	if t.found == nil || before == nil {
		return t.found != before
	}
	return t.found.String() != before.String()
}

// report logs an error unless it equals the last one.
func (t *tokens) report(err error) {
	if t.logged != err.Error() {
		t.logged = err.Error()
		t.log.Warn(t.logged)
	}
}

// used removes what was for one adoption, also the tokens that were refused before it. byToken reports that the token in use was used.
func (t *tokens) used(byToken bool) {
	if byToken && slices.Contains(t.once, t.from) {
		if err := os.Remove(t.from); err != nil {
			t.log.Warn("the token was used, but its file cannot be removed: remove it, or it is tried at the next adoption", "file", t.from, "error", err)
		}
	}
	t.removeRefused()
	t.removeOrder()
	t.found, t.from, t.openUntil = nil, "", time.Time{}
	clear(t.refused)
}

// removeRefused removes the files for one adoption whose tokens a hub refused. The domain was
// adopted in another way, and they would be tried, and refused, at its next adoption.
func (t *tokens) removeRefused() {
	for _, file := range t.once {
		token, err := adoption.ReadTokenFile(file)
		if err != nil || !t.refused[token.String()] {
			continue // it is not there, not readable, or was not refused
		}
		if err := os.Remove(file); err != nil {
			t.log.Warn("the token was refused, but its file cannot be removed: remove it, or it is tried at the next adoption", "file", file, "error", err)
			continue
		}
		t.log.Info("the token was refused, and is not needed any more: its file is removed", "file", file)
	}
}

// hasOrder reports whether what `domain join` left is there.
func (t *tokens) hasOrder() bool {
	_, err := os.Lstat(t.dir.Path(joinFile))
	return err == nil
}

// removeOrder removes what `domain join` left.
func (t *tokens) removeOrder() {
	path := t.dir.Path(joinFile)
	for _, file := range []string{path, path + atomicfile.Previous} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.log.Warn("cannot remove the token that was used", "error", err)
		}
	}
}

// addresses returns the URLs of the hubs that the token names. HOST is reached by TLS at
// port 8883; HOST:PORT is tried with TLS and without, unless the port is one of MQTT's own.
func (t *tokens) addresses() [][]string {
	if t.found == nil {
		return nil
	}
	var all [][]string
	for _, a := range t.found.Addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			all = append(all, []string{"mqtts://" + net.JoinHostPort(a, "8883")})
			continue
		}
		at := net.JoinHostPort(host, port)
		urls := []string{"mqtts://" + at, "mqtt://" + at}
		ip, err := netip.ParseAddr(host)
		switch {
		case port == strconv.Itoa(locate.PortMQTT):
			urls = urls[1:]
		case port == strconv.Itoa(locate.PortMQTTS):
			urls = urls[:1]
		case err == nil && ip.IsLoopback():
			slices.Reverse(urls)
		}
		all = append(all, urls)
	}
	return all
}
