package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// plan is what a life of a service needs; it is made before the start.
type plan struct {
	// spec is that of the start command, completed by service.toml.
	spec    topics.Spec
	owner   owner
	command Command
	// manifest is its service.toml.
	manifest config.Service
	// commandEnvironment is the environment of the start command.
	commandEnvironment map[string]string
	// health is the command of its health check; empty: none.
	health  []string
	version string
	// bundled is set where it runs from a bundle.
	bundled bool
	port    int
	// notifyPath is its NOTIFY_SOCKET; empty: it has none.
	notifyPath string
}

// watchdog returns the time within which the service must notify; 0: it has no
// watchdog.
func (p plan) watchdog() time.Duration {
	if h := p.spec.Health; h != nil && h.Notify {
		return h.Watchdog.Duration()
	}
	return 0
}

// bundle returns the bundle that the service runs from; nil: from services_dir.
func (p plan) bundle() *topics.Bundle {
	if !p.bundled {
		return nil
	}
	return p.spec.Bundle
}

// refusedError is the reason why this domain refuses a spec, however often it is
// sent.
type refusedError string

func (e refusedError) Error() string { return string(e) }

// refusal returns why a spec is refused; "" if it is not. The hub checks the same;
// this is against other clients that may publish on the topic.
func refusal(name string, spec topics.Spec) string {
	switch f := spec.EnvironmentFile; {
	case !topics.ValidName(name):
		return fmt.Sprintf("%q is not a valid service name", name)
	case spec.Target != "" && !topics.ValidTarget(spec.Target):
		return fmt.Sprintf("%q is not a valid make target: use letters, digits, _ . and -, a letter or digit first", spec.Target)
	case spec.Port < 0 || spec.Port > 65535:
		return fmt.Sprintf("%d is not a valid port: use 1 to 65535, or 0 for one of the domain's choice", spec.Port)
	case f != "" && !filepath.IsAbs(f):
		return fmt.Sprintf("environment_file %q is not an absolute path", f)
	}
	for _, k := range slices.Sorted(maps.Keys(spec.Environment)) {
		if err := services.CheckVariable(k, spec.Environment[k]); err != nil {
			return "environment: " + err.Error()
		}
	}
	// What is on the disk may be older than this check.
	if err := topics.Check(spec); err != nil {
		return err.Error()
	}
	return ""
}

// refusal returns why this domain refuses a spec; "" if it does not.
func (s *Supervisor) refusal(name string, spec topics.Spec) string {
	return cmp.Or(refusal(name, spec), s.o.Refuse(name, spec))
}

// plan finds what is needed to start a service, or why it cannot be started.
func (s *Supervisor) plan(v *service, token string) (plan, error) {
	if why := s.refusal(v.Service, v.commandSpec); why != "" {
		return plan{}, refusedError(why)
	}
	dir, version, err := s.directory(v.Service, v.commandSpec)
	if err != nil {
		return plan{}, err
	}
	isDir, err := foreign.Do(s.o.Files, dir, func() (bool, error) {
		info, err := os.Stat(dir)
		return err == nil && info.IsDir(), err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return plan{}, err
	}
	if !isDir {
		return plan{}, fmt.Errorf("there is no directory %s: put the service there", dir)
	}
	file, err := s.manifest(v.Service, v.commandSpec)
	if err != nil {
		return plan{}, err
	}
	p := plan{version: cmp.Or(version, s.version(v.Service, file)), bundled: version != ""}
	if why := outOfRange(v.Service, p.version, v.commandSpec.Versions); why != "" {
		return plan{}, errors.New(why)
	}
	p.spec, _ = file.Complete(v.commandSpec)
	p.manifest, p.commandEnvironment = file, v.commandSpec.Environment
	if file.Health != nil {
		p.health = file.Health.Command
	}
	if p.owner, err = s.users.of(v.Service); err != nil {
		return plan{}, err
	}
	p.command.Dir, p.command.Credential = dir, p.owner.credential
	found, err := foreign.Do(s.o.Files, dir, func() (c Command, err error) {
		c.Path, c.Args, err = program(dir, p.spec.Target, file.Command)
		return c, err
	})
	if err != nil {
		return plan{}, err
	}
	p.command.Path, p.command.Args = found.Path, found.Args
	if p.port, err = s.ports.assign(v.Service, p.spec.Port); err != nil {
		return plan{}, err
	}
	data := s.serviceData(v.Service)
	if err := s.provideDataDir(v.Service, p.owner); err != nil {
		return plan{}, fmt.Errorf("cannot use its data directory: %w", err)
	}
	if h := p.spec.Health; h != nil && h.Notify {
		p.notifyPath = s.notifyPath(v.Service)
	}
	all, err := s.environment(v.Service, p, token, data)
	if err != nil {
		return p, err
	}
	p.command.Env = list(all)
	return p, s.checkMakeExpansion(v.Service, dir, all, p.command.Args, p.health)
}

// version returns the version of what is on the disk: that of service.toml as it
// was just read, else the one that the agent made of the code.
func (s *Supervisor) version(name string, file config.Service) string {
	return cmp.Or(file.Version, s.o.Version(name))
}

// outOfRange returns why a version is not started: it is outside of a range that a
// running service needs; "" if it is in all of them.
func outOfRange(name, version string, ranges map[string]string) string {
	for _, by := range slices.Sorted(maps.Keys(ranges)) {
		if in, err := services.ParseRange(ranges[by]); err != nil || !in.Contains(version) {
			return fmt.Sprintf("%s needs %s %s, and version %s is in its directory now: it is not started (put a version in that range there, change the range in dominion.toml, or stop %s)",
				by, name, ranges[by], cmp.Or(version, "unknown"), by)
		}
	}
	return ""
}

// program finds what is run: make, or the service's own command.
func program(dir, target string, command []string) (path string, args []string, err error) {
	if len(command) > 0 {
		path, err = findProgram(dir, command[0])
		return path, command, err
	}
	if firstMakefile(dir) == "" {
		return "", nil, fmt.Errorf("there is no Makefile in %s: write one, or a service.toml with a command", dir)
	}
	args = makeArgs(dir)
	if target != "" {
		args = append(args, target)
	}
	path, err = findProgram(dir, "make")
	return path, args, err
}

// makeArgs returns the arguments of make without the target. Without
// --no-print-directory each start would add two lines to the log of the service.
func makeArgs(dir string) []string { return []string{"make", "--no-print-directory", "-C", dir} }

// findProgram looks up a program as a shell in dir would.
func findProgram(dir, name string) (string, error) {
	if strings.Contains(name, "/") {
		full := name
		if !filepath.IsAbs(name) {
			full = filepath.Join(dir, name)
		}
		if err := executable(full); err != nil {
			return "", fmt.Errorf("cannot run %s: %w", full, err)
		}
		return name, nil
	}
	for _, d := range filepath.SplitList(searchPath()) {
		if path := filepath.Join(d, name); filepath.IsAbs(d) && executable(path) == nil {
			return path, nil
		}
	}
	if name == "make" {
		return "", errors.New("there is no make on this domain: install it (apt install make)")
	}
	return "", fmt.Errorf("there is no program %s in PATH: install it, or write the path of it (\"./%s\")", name, name)
}

// unstartable explains an error of execve(2), whose error codes are ambiguous.
func unstartable(c Command, err error) error {
	path := c.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.Dir, path)
	}
	interpreter := ""
	if errors.Is(err, syscall.ENOENT) {
		interpreter = firstLine(path)
	}
	switch {
	case errors.Is(err, syscall.E2BIG):
		return fmt.Errorf("cannot start %s: its environment is too large for the kernel: put what is long into a file", c.Path)
	case errors.Is(err, syscall.ENOENT) && strings.HasSuffix(interpreter, "\r"):
		return fmt.Errorf("cannot start %s: its lines end as on Windows (sed -i 's/\\r$//' %s)", c.Path, path)
	case errors.Is(err, syscall.ENOENT) && interpreter != "":
		return fmt.Errorf("cannot start %s: %s of its first line does not exist: install it, or correct the line", c.Path, interpreter)
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("cannot start %s: the loader that it was built for does not exist: it is for another system", c.Path)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("cannot start %s: it is no program for this machine, and no script with #! at its beginning", c.Path)
	}
	return fmt.Errorf("cannot start %s: %w", c.Path, err)
}

// firstLine returns the interpreter of a script; "" of anything else.
func firstLine(path string) string {
	f, err := openProgram(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 256) // as much of it as the kernel reads
	n, _ := io.ReadFull(f, b)
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	line, script := strings.CutPrefix(line, "#!")
	if !script {
		return ""
	}
	line = strings.TrimLeft(line, " \t")
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		line = line[:i]
	}
	return line
}

// executable reports why a file cannot be run. It may belong to the user of a
// service: nothing here waits for a FIFO, or for a lease, for which execve(2) would
// wait 45 s.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return errors.Unwrap(err)
	case info.IsDir():
		return syscall.EISDIR
	case !info.Mode().IsRegular():
		return errNotRegular
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("it is not executable (chmod +x)")
	}
	f, err := openProgram(path)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return errors.New("another program has a lease on it (fcntl F_SETLEASE)")
	case errors.Is(err, errNotRegular):
		return errNotRegular
	case err == nil:
		f.Close()
	}
	return nil // the kernel runs also what cannot be read
}

var errNotRegular = errors.New("it is not a regular file")

// openProgram opens a regular file for reading, without waiting for it.
func openProgram(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// environment returns the environment of a service: a small base, then
// the variables of service.toml and start command with its secrets, then those that cannot be set.
func (s *Supervisor) environment(name string, p plan, token, data string) (map[string]string, error) {
	all := p.owner.base(data)
	maps.Copy(all, p.spec.Environment)
	opened, err := s.openSecrets(name, p.commandEnvironment, p.spec.Secrets)
	if err != nil {
		return nil, err
	}
	maps.Copy(all, opened)
	var local map[string]string
	if file := p.spec.EnvironmentFile; file != "" {
		if local, err = s.readEnvironmentFile(file, p.owner); err != nil {
			return nil, err
		}
		maps.Copy(all, local)
	}
	if why := s.undeclaredVariables(p.manifest, name, p.commandEnvironment, local); why != "" {
		return nil, errors.New(why)
	}
	for dependency, address := range p.spec.Dependencies {
		if topics.ValidName(dependency) && topics.ValidEndpoint(address) {
			all["DEPENDENCY_"+strings.ToUpper(strings.ReplaceAll(dependency, "-", "_"))] = address
		}
	}
	maps.Copy(all, s.o.Environment(name))
	all["DOMAIN_UUID"] = s.o.Domain
	all["SERVICE_NAME"] = name
	all["SERVICE_PORT"] = strconv.Itoa(p.port)
	all["SERVICE_VERSION"] = p.version
	all["SERVICE_DATA_DIR"] = data
	all["DOMINION_INSTANCE"] = token
	if p.notifyPath != "" {
		all["NOTIFY_SOCKET"] = p.notifyPath
		// Without WATCHDOG_PID, as the process that notifies is a child of make;
		// sd_watchdog_enabled(3) then accepts the variable in any process.
		if w := p.watchdog(); w > 0 {
			all["WATCHDOG_USEC"] = strconv.FormatInt(w.Microseconds(), 10)
		}
	}
	return all, nil
}

// list returns an environment as a process is given it.
func list(all map[string]string) []string {
	env := make([]string, 0, len(all))
	for _, k := range slices.Sorted(maps.Keys(all)) {
		env = append(env, k+"="+all[k])
	}
	return env
}

// maxEnvironmentFile is more than a kernel takes as environment anyway.
const maxEnvironmentFile = 1 << 20

// readEnvironmentFile reads KEY=VALUE lines. The start command names the file, so
// variables that a start command may not set are refused in it, too, and it is read
// as the user of the service.
func (s *Supervisor) readEnvironmentFile(name string, own owner) (map[string]string, error) {
	b, err := s.o.Files.Read(name, own.credential, maxEnvironmentFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no environment_file %s", name)
	}
	if err != nil {
		return nil, fmt.Errorf("environment_file: %w", err)
	}
	return parseEnvironment(name, string(b))
}

// parseEnvironment parses the KEY=VALUE lines of an environment file; name is for
// errors. Empty lines and comments, which begin with # or ;, are skipped.
func parseEnvironment(name, text string) (map[string]string, error) {
	all := make(map[string]string)
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) { // the byte order mark of editors on Windows
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		key, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok {
			return nil, fmt.Errorf("%s:%d: no KEY=VALUE", name, n) // the line may be a secret
		}
		key, value = strings.TrimSpace(key), unquote(strings.TrimSpace(value))
		if err := services.CheckEnvironment(key, value); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		all[key] = value
	}
	return all, nil
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// logFiles take a service's output. A nil file discards it.
type logFiles struct{ stdout, stderr *os.File }

// Close closes them: the service's processes hold them open.
func (l logFiles) Close() error {
	closeFiles(l.stdout, l.stderr)
	return nil
}

// openLogs opens the files that take a service's output. Where the disk refuses
// them the service runs without logs; where it does not answer it does not start.
func (s *Supervisor) openLogs(name string, own owner) (logFiles, error) {
	dir := filepath.Join(s.o.LogDir, name)
	var wrong error
	opened, err := openOnDisk(s, func() (l logFiles, _ error) {
		l, wrong = s.openBoth(dir, own)
		return l, nil
	})
	if err == nil {
		err = wrong
	}
	s.reportDisk("log of "+name, err)
	if errors.Is(err, errHung) {
		return logFiles{}, err
	}
	return opened, nil
}

func (s *Supervisor) openBoth(dir string, own owner) (l logFiles, err error) {
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return l, err
	}
	if l.stdout, err = s.openLog(filepath.Join(dir, "stdout.log"), own); err != nil {
		return l, err
	}
	l.stderr, err = s.openLog(filepath.Join(dir, "stderr.log"), own)
	return l, err
}

// openLog opens a log to append to. The file may belong to the user of the
// services, who could have left a FIFO, a link or a lease in its place: then it
// is removed and a new one made.
func (s *Supervisor) openLog(path string, own owner) (*os.File, error) {
	f, err := openOwnLog(path, own, 0)
	if err != nil && !errors.Is(err, errNotOurLog) && !errors.Is(err, syscall.ELOOP) && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.ENXIO) {
		return nil, err
	}
	if err != nil {
		s.o.Log.Warn("a service's log is replaced", "file", path, "reason", err)
		if info, wrong := os.Lstat(path); wrong == nil && errors.Is(err, syscall.EAGAIN) && ourLog(info) {
			err = os.Rename(path, path+".1") // what it holds stays readable
		} else {
			err = os.Remove(path)
		}
		if err != nil {
			return nil, err
		}
		f, err = openOwnLog(path, own, os.O_EXCL)
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(own.chown(f), syscall.SetNonblock(int(f.Fd()), false)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

var errNotOurLog = errors.New("it is not a regular file with one name, of this domain or its services")

// ourLog reports whether a file is a regular one with one name.
func ourLog(info fs.FileInfo) bool {
	status, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().IsRegular() && ok && status.Nlink == 1
}

// openOwnLog opens a log to append to, and returns errNotOurLog if the file is not
// a regular one with a single name that belongs to the owner, root or the agent.
func openOwnLog(path string, own owner, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|flags, 0o640)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		if status, ok := info.Sys().(*syscall.Stat_t); !ourLog(info) || ok && !own.mayWrite(int(status.Uid)) {
			err = errNotOurLog
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func closeFiles(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
