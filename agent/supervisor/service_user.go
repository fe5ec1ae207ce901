package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// The users of the services of an agent that is root, where the configuration
// names none: the one that `make install` makes, else the one that is there.
const (
	DefaultUser  = "dominion-services"
	fallbackUser = "nobody"
)

// deviceGroups are the groups through which the devices of a machine are used.
// Those that exist are given to DefaultUser and fallbackUser.
var deviceGroups = []string{
	"dialout", "uucp", "gpio", "i2c", "spi", "audio", "video", "render", "input", "plugdev", "bluetooth",
}

// owner is the user that a service runs as.
type owner struct {
	// home "": the service's data directory
	name, home string
	// uid and gid own what it writes.
	uid, gid int
	// credential is what a service runs with; nil: the agent's own.
	credential *syscall.Credential
}

// users decides as whom services run.
type users struct {
	// runAs is the key run_as.
	runAs string
	// allowRoot is the key allow_root.
	allowRoot []string
}

// of looks up the user of a service. It is asked at each start, so that a
// group that was added to a user counts from then on.
func (u users) of(service string) (owner, error) {
	switch {
	case os.Getuid() == 0 && slices.Contains(u.allowRoot, service):
		return self(), nil
	case u.runAs != "":
		return findOwner(u.runAs)
	case os.Getuid() != 0:
		return self(), nil
	}
	own, _, err := defaultOwner()
	return own, err
}

// check reports why services cannot run at all, and in remark what the owner of
// the machine should know about their user.
func (u users) check() (remark string, err error) {
	if u.runAs != "" {
		_, err = findOwner(u.runAs)
	} else if os.Getuid() == 0 {
		own, missing, wrong := defaultOwner()
		if err = wrong; missing {
			remark = fmt.Sprintf("there is no user %s: services run as %s (make install makes that user; or set run_as in domain.toml)", DefaultUser, own.name)
		}
	}
	if os.Getuid() != 0 && len(u.allowRoot) > 0 {
		remark = "allow_root has no effect: the agent is not root, services run as its user"
	}
	return remark, err
}

// self returns the agent's own user.
func self() owner {
	own := owner{name: os.Getenv("USER"), home: os.Getenv("HOME"), uid: os.Getuid(), gid: os.Getgid()}
	if u, err := user.LookupId(strconv.Itoa(own.uid)); err == nil { // a container may not know it
		own.name = u.Username
		if own.home == "" {
			own.home = u.HomeDir
		}
	}
	return own
}

// defaultOwner returns the user of services where the configuration of an agent
// that is root names none. missing reports that it is not DefaultUser. A
// machine without a user database gets the usual number of the user nobody.
func defaultOwner() (own owner, missing bool, err error) {
	u, err := user.Lookup(DefaultUser)
	if missing = err != nil; missing {
		if u, err = user.Lookup(fallbackUser); err != nil {
			u, err = &user.User{Username: fallbackUser, Uid: "65534", Gid: "65534"}, nil
		}
	}
	if own, err = ownerOf(u); err != nil {
		return owner{}, missing, err
	}
	if own.uid == 0 {
		return owner{}, missing, fmt.Errorf("cannot run services as %q: its number is root's: set run_as in domain.toml", own.name)
	}
	own.home = ""
	for _, name := range deviceGroups {
		g, err := user.LookupGroup(name)
		if err != nil {
			continue // not on this machine
		}
		if id, err := strconv.ParseUint(g.Gid, 10, 32); err == nil && !slices.Contains(own.credential.Groups, uint32(id)) {
			own.credential.Groups = append(own.credential.Groups, uint32(id))
		}
	}
	return own, missing, nil
}

// findOwner looks up run_as, a name or a number.
func findOwner(name string) (owner, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if byID, wrong := user.LookupId(name); wrong == nil { // run_as = "1000"
			u, err = byID, nil
		}
	}
	if err != nil {
		return owner{}, fmt.Errorf("cannot run services as %q: %w: make that user, or leave run_as out", name, err)
	}
	own, err := ownerOf(u)
	switch {
	case err != nil:
		return owner{}, err
	case own.uid == os.Getuid() && own.uid != 0:
		own.credential = nil
		return own, nil
	case os.Getuid() != 0:
		return owner{}, fmt.Errorf("cannot run services as %q: only root can; start the agent as root, or leave run_as out", name)
	case own.uid == 0:
		return owner{}, fmt.Errorf("cannot run all services as root: name those that need it, allow_root = [\"…\"], and leave run_as out")
	}
	return own, nil
}

// ownerOf returns a user with its groups, which only root can give.
func ownerOf(u *user.User) (owner, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return owner{}, fmt.Errorf("cannot run services as %q: uid %q is not a number", u.Username, u.Uid)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return owner{}, fmt.Errorf("cannot run services as %q: gid %q is not a number", u.Username, u.Gid)
	}
	own := owner{name: u.Username, home: u.HomeDir, uid: int(uid), gid: int(gid)}
	own.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	more, err := u.GroupIds()
	if err != nil {
		return owner{}, fmt.Errorf("cannot run services as %q: cannot read its groups: %w", u.Username, err)
	}
	for _, g := range more { // dialout, gpio, i2c: what a service on a Pi needs
		if id, err := strconv.ParseUint(g, 10, 32); err == nil {
			own.credential.Groups = append(own.credential.Groups, uint32(id))
		}
	}
	return own, nil
}

// User returns who services run as that allow_root does not name; nil: the
// agent's own user.
func User(runAs string) (*syscall.Credential, error) {
	own, err := users{runAs: runAs}.of("")
	return own.credential, err
}

// UserOf returns who a service runs as; nil: the agent's own user.
func UserOf(service, runAs string, allowRoot []string) (*syscall.Credential, error) {
	own, err := users{runAs, allowRoot}.of(service)
	return own.credential, err
}

// mayWrite reports whether a file of a user may be a log of the owner's service.
func (o owner) mayWrite(uid int) bool { return uid == 0 || uid == os.Getuid() || uid == o.uid }

// mayRunAs reports whether a process of a user may be a service. A process of the
// services' user may claim to be any of them, except one that runs as root.
func (u users) mayRunAs(service string, uid int) bool {
	if uid == os.Getuid() {
		return true
	}
	own, err := u.of(service)
	return err == nil && uid == own.uid
}

func searchPath() string {
	if p := os.Getenv("PATH"); p != "" {
		return p
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// base is the environment that every service starts with; data is the
// service's data directory. Nothing else of the agent's own environment is
// passed on: it may hold secrets.
func (o owner) base(data string) map[string]string {
	env := map[string]string{"PATH": searchPath(), "HOME": o.home}
	if o.home == "" {
		env["HOME"] = data
	}
	if o.name != "" {
		env["USER"], env["LOGNAME"] = o.name, o.name
	}
	for _, k := range []string{"LANG", "LC_ALL", "TZ", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env[k] = v
		}
	}
	return env
}

// chown changes the owner of an open file.
func (o owner) chown(f *os.File) error {
	if os.Getuid() != 0 {
		return nil
	}
	return f.Chown(o.uid, o.gid)
}

// allowTraversal permits the users of services to reach their own files below dir,
// but not to list or read the rest.
func allowTraversal(dir string) error {
	if os.Getuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return os.Chmod(dir, info.Mode().Perm()|0o011)
}

// errChowning is the error of a start that waits for the change of its data
// directory's owner.
var errChowning = errors.New("its data directory is being given to its user")
