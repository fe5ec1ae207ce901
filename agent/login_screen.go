package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/atomicfile"
)

// IssueFile is where the code of a domain is shown on the login screen of its machine,
// which shows what is in that directory (agetty).
const IssueFile = "/run/issue.d/dominion.issue"

// show shows the code: in the log, and on the login screen.
func (m *membership) show() {
	h, _ := m.home()
	text := fmt.Sprintf("this domain waits for adoption: %s on the hub's machine", m.adoptCommand())
	if h.ID != "" {
		text += fmt.Sprintf(" (it belongs to dominion %q, which it does not hear)", h.Name)
	}
	m.o.Log.Info(text, "key", identity.Label(m.keyHash()))
	m.showOnScreen()
}

// adoptCommand returns what a person types on the hub's machine.
func (m *membership) adoptCommand() string {
	adopt := fmt.Sprintf("dominionctl adopt %s %s", m.o.Config.Name, m.code)
	if m.o.Unit {
		return "sudo " + adopt // the hub is a unit too, whose control socket is for root and a group
	}
	return adopt
}

// showOnScreen shows the code on the login screen, and that a hub refuses the domain whatever its
// code: one that was forgotten needs domain reset first. The text of the hub is not shown there,
// as any program in the network can be that hub.
func (m *membership) showOnScreen() {
	if m.o.IssueFile == "" {
		return
	}
	screen := fmt.Sprintf("\nDominion: the domain %s (key %s) waits for adoption.\nOn the hub's machine: %s\n", m.o.Config.Name, identity.Label(m.keyHash()), m.adoptCommand())
	if m.application != nil && m.application.Refusal() != "" {
		screen += "A hub refuses it: `sudo domain code` says why.\n"
	}
	if screen += "\n"; screen == m.screen {
		return
	}
	m.screen = screen
	err := os.MkdirAll(filepath.Dir(m.o.IssueFile), 0o755)
	if err == nil {
		err = atomicfile.Write(m.o.IssueFile, []byte(screen), 0o600) // agetty is root; whoever has the code can take this machine over
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) { // only root has a login screen
		m.o.Log.Warn("the code cannot be shown on the login screen", "error", err)
	}
}

// unshow takes the code off the login screen.
func (m *membership) unshow() {
	m.showAt, m.screen = time.Time{}, ""
	if m.o.IssueFile == "" {
		return
	}
	for _, file := range []string{m.o.IssueFile, m.o.IssueFile + atomicfile.Previous} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			m.o.Log.Warn("the code cannot be taken off the login screen", "error", err)
		}
	}
}
