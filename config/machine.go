package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// machine is what the defaults depend on: a seam for tests.
type machine struct {
	uid        int
	name       string // of the domain that it is
	tempFolder string
	// exists reports whether a file is there; nil: nobody asks. Only a check
	// asks: a file may come later, and an agent starts without it.
	exists func(path string) bool
	// isUser reports whether there is a user; nil: nobody asks, for the same reason.
	isUser func(name string) bool
}

// checking is the machine for a check.
func (m machine) checking() machine {
	m.exists = func(path string) bool {
		_, err := os.Stat(path)
		return !errors.Is(err, fs.ErrNotExist) // another user may see more than we
	}
	m.isUser = func(name string) bool {
		_, err := user.Lookup(name)
		if errors.As(err, new(user.UnknownUserError)) {
			_, err = user.LookupId(name)
		}
		return !errors.As(err, new(user.UnknownUserIdError)) && !errors.Is(err, strconv.ErrSyntax)
	}
	return m
}

func thisMachine() machine {
	host, err := os.Hostname()
	if err != nil {
		host = "" // a host without a name is a domain all the same
	}
	return machine{uid: os.Geteuid(), name: topics.NameFromHost(host), tempFolder: os.TempDir()}
}

// dataDir returns the default data_dir of program; LoadDominion says why.
func (m machine) dataDir(program, system, file string, environ []string) string {
	if file != "" || m.uid == 0 {
		return system
	}
	var home, state string
	for _, v := range environ {
		switch name, value, _ := strings.Cut(v, "="); name {
		case "HOME":
			home = value
		case "XDG_STATE_HOME":
			state = value
		}
	}
	switch {
	case filepath.IsAbs(state): // the XDG specification ignores a relative one
		return filepath.Join(state, program)
	case filepath.IsAbs(home):
		return filepath.Join(home, ".local", "state", program)
	}
	return filepath.Join(m.tempFolder, fmt.Sprintf("%s-%d", program, m.uid))
}
