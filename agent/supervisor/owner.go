package supervisor

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// owner is the user that services run as.
type owner struct {
	name, home string
	credential *syscall.Credential // nil: the agent's own
}

// findOwner looks up run_as; "" is the agent's own user.
func findOwner(name string) (owner, error) {
	uid := os.Getuid()
	if name == "" {
		own := owner{name: os.Getenv("USER"), home: os.Getenv("HOME")}
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil { // a container may not know it
			own.name = u.Username
			if own.home == "" {
				own.home = u.HomeDir
			}
		}
		return own, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if byID, wrong := user.LookupId(name); wrong == nil { // run_as = "1000"
			u, err = byID, nil
		}
	}
	if err != nil {
		return owner{}, fmt.Errorf("cannot run services as %q: %w: make that user, or leave run_as out", name, err)
	}
	own := owner{name: u.Username, home: u.HomeDir}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return owner{}, fmt.Errorf("cannot run services as %q: uid %q is no number", name, u.Uid)
	}
	group, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return owner{}, fmt.Errorf("cannot run services as %q: gid %q is no number", name, u.Gid)
	}
	if int(id) == uid {
		return own, nil
	}
	if uid != 0 {
		return owner{}, fmt.Errorf("cannot run services as %q: only root can; start the agent as root, or leave run_as out", name)
	}
	own.credential = &syscall.Credential{Uid: uint32(id), Gid: uint32(group)}
	more, err := u.GroupIds()
	if err != nil {
		return owner{}, fmt.Errorf("cannot run services as %q: cannot read its groups: %w", name, err)
	}
	for _, g := range more { // dialout, gpio, i2c: what a service on a Pi needs
		if id, err := strconv.ParseUint(g, 10, 32); err == nil {
			own.credential.Groups = append(own.credential.Groups, uint32(id))
		}
	}
	return own, nil
}

// User returns who services run as for run_as; nil: the agent's own user.
func User(runAs string) (*syscall.Credential, error) {
	own, err := findOwner(runAs)
	return own.credential, err
}

// runs tells whether a process of a user may be a service.
func (o owner) runs(uid int) bool {
	return uid == os.Getuid() || o.credential != nil && uid == int(o.credential.Uid)
}

func searchPath() string {
	if p := os.Getenv("PATH"); p != "" {
		return p
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// base is the environment that every service starts with. Nothing else of the
// agent's own environment is passed on: it may hold secrets.
func (o owner) base() map[string]string {
	env := map[string]string{"PATH": searchPath()}
	if o.home != "" {
		env["HOME"] = o.home
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

// mkdir makes a directory of the owner's.
func (o owner) mkdir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if o.credential == nil {
		return nil
	}
	return os.Lchown(dir, int(o.credential.Uid), int(o.credential.Gid))
}

// own gives an open file to the owner.
func (o owner) own(f *os.File) error {
	if o.credential == nil {
		return nil
	}
	return f.Chown(int(o.credential.Uid), int(o.credential.Gid))
}

// letThrough lets another user than the agent's reach what is its own below
// dir, without letting it list or read the rest.
func (o owner) letThrough(dir string) error {
	if o.credential == nil {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return os.Chmod(dir, info.Mode().Perm()|0o011)
}
