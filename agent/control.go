package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// The commands `domain code` and `domain join` reach a running agent by a Unix socket in
// data_dir/identity, a directory of the agent's user alone. One request and one answer
// are one line of JSON each. What `domain join` was given is in a file there, so that it
// counts also where no agent runs yet.

// socketFile is the socket in data_dir/identity.
const socketFile = "agent.socket"

// The exit codes of `domain code` and `domain join`, beside 0.
const (
	ExitRefused = 1
	ExitNoHub   = 3
)

const (
	// JoinTimeout is how long `domain join` waits.
	JoinTimeout = 30 * time.Second
	// codeTimeout is how long `domain code` waits until a hub is found.
	codeTimeout = 10 * time.Second
	// maxRequest bounds a request.
	maxRequest = 4096
	// startTime is how long an agent that was just started may take to open its socket.
	startTime = 3 * time.Second
	// pollInterval is how often a command looks for what it waits for.
	pollInterval = 100 * time.Millisecond
)

// request is a request of a command.
type request struct {
	// Verb is "code" or "join".
	Verb string `json:"verb"`
	// New asks for a new code.
	New bool `json:"new,omitempty"`
}

// answer is the answer to a request.
type answer struct {
	Code string `json:"code,omitempty"`
	// Note is for people, beside the code.
	Note   string `json:"note,omitempty"`
	Joined string `json:"joined,omitempty"`
	Error  string `json:"error,omitempty"`
	// Exit is the exit code of the command.
	Exit int `json:"exit"`
}

// outcome is what has come of `domain join`: a dominion that was joined, or a refusal.
type outcome struct{ joined, refused string }

// finish passes an outcome to those who wait for it.
func (m *membership) finish(o outcome) {
	for _, w := range m.waiters {
		w <- o // buffered, and nobody else sends
	}
	m.waiters = nil
}

// socketPath returns a path of the socket that is short enough for a socket, and a
// function that must be called when it is not used any more.
func socketPath(dataDir string) (path string, release func(), err error) {
	dir := filepath.Join(dataDir, identity.Directory)
	path = filepath.Join(dir, socketFile)
	if len(path) < 100 {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketFile), func() { d.Close() }, nil
}

// ServeCommands answers `domain code` and `domain join` until ctx ends. The agent need
// not run yet. Without a socket, commands only leave what they were given for the next
// agent, so an error is logged and nothing more.
func (a *Agent) ServeCommands(ctx context.Context) {
	if err := a.serveCommands(ctx); err != nil {
		a.o.Log.Warn("domain code and domain join cannot reach this agent", "error", err)
	}
}

func (a *Agent) serveCommands(ctx context.Context) error {
	var m *membership
	select {
	case <-ctx.Done():
		return nil
	case m = <-a.membership:
	}
	path, release, err := socketPath(a.o.Config.DataDir)
	if err != nil {
		return err
	}
	defer release()
	// data_dir is locked: a socket that is there is that of an agent that was killed.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			m.serve(ctx, conn)
		}()
	}
}

// serve answers the request of a connection.
func (m *membership) serve(ctx context.Context, conn net.Conn) {
	if conn.SetDeadline(time.Now().Add(JoinTimeout+codeTimeout)) != nil {
		return
	}
	line, err := bufio.NewReaderSize(conn, maxRequest).ReadSlice('\n')
	var r request
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	a := answer{Error: "unknown request", Exit: ExitRefused}
	switch {
	case err != nil:
		a.Error = err.Error()
	case r.Verb == "code":
		a = m.showCode(ctx, r.New)
	case r.Verb == "join":
		a = m.awaitJoin(ctx)
	}
	if err := json.NewEncoder(conn).Encode(a); err != nil {
		m.o.Log.Debug("a command went away before its answer", "error", err)
	}
}

// showCode returns the code, once the domain asks a hub: else why none was found.
func (m *membership) showCode(ctx context.Context, anew bool) answer {
	if anew {
		if err := m.newCode(); err != nil {
			return answer{Error: err.Error(), Exit: ExitRefused}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, codeTimeout)
	defer cancel()
	for {
		code, why, final := m.visibleCode()
		if code != "" {
			return answer{Code: code, Note: m.refusalNote()}
		}
		if final || !sleep(ctx, pollInterval) {
			return answer{Error: why, Exit: ExitRefused}
		}
	}
}

// newCode replaces the code, and shows the new one where the former one is shown.
func (m *membership) newCode() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.replaceCode(); err != nil {
		return err
	}
	if m.application != nil && m.showAt.IsZero() {
		m.show()
	}
	m.change()
	return nil
}

// visibleCode returns the code if the domain asks a hub, else why it does not; final is
// set if waiting changes nothing.
func (m *membership) visibleCode() (code, why string, final bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.application == nil {
		if h, adopted := m.home(); adopted {
			return "", fmt.Sprintf("this domain belongs to dominion %q: another one can adopt it when it has not heard its hub for a while, or after domain reset", h.Name), true
		}
		return "", "this domain does not ask for adoption", false
	}
	if m.asksSomewhere() {
		return m.code.String(), "", false
	}
	return "", m.whyNobody(), false
}

// refusalNote says why a hub refuses the domain, whatever its code; "": none does. A machine
// that was forgotten shows a code, and needs domain reset first.
func (m *membership) refusalNote() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.application == nil || m.application.Refusal() == "" {
		return ""
	}
	return "a hub refuses this domain: " + m.application.Refusal()
}

// asksSomewhere reports whether a hub, or a broker, is reached.
func (m *membership) asksSomewhere() bool {
	for _, err := range m.reached {
		if err == nil {
			return true
		}
	}
	return false
}

// whyNobody says why no hub was reached.
func (m *membership) whyNobody() string {
	var why []string
	for url, err := range m.reached {
		if err != nil && url != link.LoopbackURL {
			why = append(why, err.Error())
		}
	}
	slices.Sort(why)
	if m.o.Config.Hub == "" {
		why = append(why, link.NoHubFound)
	}
	if len(why) == 0 {
		return "no hub answers at " + m.o.Config.Hub
	}
	return strings.Join(why, "; ")
}

// awaitJoin waits until a dominion has adopted the domain by what `domain join` has left.
func (m *membership) awaitJoin(ctx context.Context) answer {
	m.mu.Lock()
	h, adopted := m.home()
	if adopted && !m.tokens.hasOrder() { // the agent has found it before it was asked
		m.mu.Unlock()
		return answer{Joined: h.Name}
	}
	if m.application == nil && adopted {
		m.tokens.removeOrder()
		m.mu.Unlock()
		return answer{Error: fmt.Sprintf("this domain belongs to dominion %q: domain reset first", h.Name), Exit: ExitRefused}
	}
	result := make(chan outcome, 1)
	m.waiters = append(m.waiters, result)
	m.tokens.next = time.Time{} // look now
	clear(m.tokens.refused)
	m.refreshed = true
	m.mu.Unlock()
	m.change()
	timer := time.NewTimer(JoinTimeout)
	defer timer.Stop()
	select {
	case o := <-result:
		if o.refused != "" {
			return answer{Error: o.refused, Exit: ExitRefused}
		}
		return answer{Joined: o.joined}
	case <-ctx.Done():
	case <-timer.C:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiters = slices.DeleteFunc(m.waiters, func(w chan outcome) bool { return w == result })
	if m.application != nil && m.application.Problem() != "" {
		return answer{Error: m.application.Problem(), Exit: ExitRefused}
	}
	why := "no hub of that dominion answers"
	if !m.asksSomewhere() {
		why = m.whyNobody()
	}
	return answer{Error: why + " (the agent goes on trying)", Exit: ExitNoHub}
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// ask sends a request to the agent of a data_dir.
func ask(ctx context.Context, dataDir string, r request) (answer, error) {
	path, release, err := socketPath(dataDir)
	if err != nil {
		return answer{}, err
	}
	defer release()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("the agent ended before it answered: %w", err)
	}
	return a, nil
}

// askStarting sends a request to the agent of a data_dir. An agent that was just started may not
// have opened its socket yet, so it tries for startTime. Without the permission it tries once.
func askStarting(ctx context.Context, dataDir string, r request) (answer, error) {
	for began := time.Now(); ; {
		a, err := ask(ctx, dataDir, r)
		if err == nil || errors.Is(err, fs.ErrPermission) || time.Since(began) >= startTime || !sleep(ctx, pollInterval) {
			return a, err
		}
	}
}

// CommandError is why a command is not carried out, and its exit code.
type CommandError struct {
	Text string
	Exit int
}

func (e *CommandError) Error() string { return e.Text }

// result returns the error of an answer; nil: there is none.
func (a answer) result() error {
	if a.Error == "" {
		return nil
	}
	return &CommandError{a.Error, a.Exit}
}

// Code returns the code of the domain whose agent runs by a configuration, or why no
// hub was found.
func Code(ctx context.Context, c config.Domain, anew bool) (string, error) {
	code, _, err := ShowCode(ctx, c, anew)
	return code, err
}

// ShowCode is Code with a note for people: why a hub refuses the domain; "": none does.
func ShowCode(ctx context.Context, c config.Domain, anew bool) (code, note string, err error) {
	a, err := askStarting(ctx, c.DataDir, request{Verb: "code", New: anew})
	if errors.Is(err, fs.ErrPermission) {
		return "", "", &CommandError{fmt.Sprintf("cannot reach the agent: %s is not for this user: use sudo", c.DataDir), ExitRefused}
	}
	if err != nil {
		return "", "", &CommandError{fmt.Sprintf("no agent runs here that can be adopted: start it (systemctl enable --now dominion-domain): %v", err), ExitRefused}
	}
	return a.Code, a.Note, a.result()
}

// Join has the agent join by a token, or if there is none any dominion that is open, and
// returns the dominion that it has joined. What it is given is left for the agent, also
// where none runs: then it does not wait.
func Join(ctx context.Context, c config.Domain, token *adoption.Token, now time.Time) (string, error) {
	var order joinOrder
	if token != nil {
		if token.Use != adoption.ForDomain {
			return "", &CommandError{"this token is for a hub, not for a domain: dominionctl token create makes one", ExitRefused}
		}
		order.Token = token.String()
	} else {
		order.OpenUntil = now.Add(adoption.DomainWindow).Round(0)
	}
	store, err := identity.OpenStore(c.DataDir)
	if err != nil {
		return "", &CommandError{err.Error(), ExitRefused}
	}
	if err := atomicfile.WriteJSON(store.Path(joinFile), order); err != nil {
		return "", &CommandError{err.Error(), ExitRefused}
	}
	ctx, cancel := context.WithTimeout(ctx, JoinTimeout+codeTimeout/2)
	defer cancel()
	a, err := askStarting(ctx, c.DataDir, request{Verb: "join"})
	if err != nil {
		return "", &CommandError{"no agent runs here; what was given is kept, and the next agent joins by it: start it (sudo systemctl enable --now dominion-domain)", ExitNoHub}
	}
	return a.Joined, a.result()
}
