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

// DefaultDataDir is the data_dir of a hub on a machine that somebody has set up.
const DefaultDataDir = "/var/lib/dominion"

// host is what of this machine the defaults depend on. Tests have their own.
type host struct {
	uid int
	// name is that of the domain that it is.
	name       string
	tempFolder string
	// exists reports whether a file is there; nil: files are not looked for. Only a check
	// looks: a file may come later, and an agent starts without it.
	exists func(path string) bool
	// isUser reports whether there is a user; nil: users are not looked for, for the same reason.
	isUser func(name string) bool
}

// checking returns h for a check: one that looks for files and users that are named.
func (h host) checking() host {
	h.exists = func(path string) bool {
		_, err := os.Stat(path)
		return !errors.Is(err, fs.ErrNotExist) // another user may see more than we
	}
	h.isUser = func(name string) bool {
		_, err := user.Lookup(name)
		if errors.As(err, new(user.UnknownUserError)) {
			_, err = user.LookupId(name)
		}
		return !errors.As(err, new(user.UnknownUserIdError)) && !errors.Is(err, strconv.ErrSyntax)
	}
	return h
}

func thisHost() host {
	name, err := os.Hostname()
	if err != nil {
		name = "" // a host without a name is a domain all the same
	}
	return host{uid: os.Geteuid(), name: topics.NameFromHost(name), tempFolder: os.TempDir()}
}

// dataDir returns the default data_dir of program; LoadDominion says why.
func (h host) dataDir(program, system, file string, environ []string) string {
	if file != "" || h.uid == 0 {
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
	if filepath.IsAbs(state) { // the XDG specification ignores a relative one
		return filepath.Join(state, program)
	}
	if filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", program)
	}
	return filepath.Join(h.tempFolder, fmt.Sprintf("%s-%d", program, h.uid))
}
