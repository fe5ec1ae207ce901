package bundles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/bundle"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// unpackCommand is the first argument of a process that unpacks.
const unpackCommand = "unpack-bundle"

// directoryFD is the descriptor of the directory that a layer is unpacked into.
const directoryFD = 3

// unpackTime is how long unpacking may take.
const unpackTime = 10 * time.Minute

// unpackUsers are the users that unpack, where the agent is root; the first that there is.
var unpackUsers = []string{"dominion-unpack", "nobody"}

// mediaTypes are those of a layer, by its format.
var mediaTypes = map[string]string{topics.FormatZstd: bundle.LayerZstd, topics.FormatGzip: bundle.LayerGzip}

// RunUnpack unpacks a layer, and does not return, if args, the program's name first,
// request that. Otherwise it does nothing. The layer is standard input, the directory is
// directoryFD, by which it is reached also where its path is closed to the user; the digest of the
// content is written to standard output, and an error to standard error.
func RunUnpack(args []string) {
	if len(args) != 3 || args[1] != unpackCommand {
		return
	}
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	if err := syscall.Fchdir(directoryFD); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	root, err := os.OpenRoot(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	syscall.Umask(0o022)
	content, err := bundle.Unpack(os.Stdin, mediaTypes[args[2]], root, bundle.DefaultLimits)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(content.Digest)
	os.Exit(0)
}

// unpack has a process without rights unpack a layer that was verified, and makes the result
// a bundle.
func (s *Store) unpack(ctx context.Context, file string, layer bundle.Digest, v topics.BundleVariant) (unpacked string, err error) {
	dir, err := os.MkdirTemp(s.o.Dir, unpackPrefix)
	if err != nil {
		return "", noSpace(err)
	}
	defer func() {
		if err != nil {
			if removing := removeAll(dir); removing != nil {
				s.o.Log.Warn("a bundle that was unpacked in part stays on the disk", "path", dir, "error", removing)
			}
		}
	}()
	if err := s.checkSpace(v.Size); err != nil {
		return "", err
	}
	content, err := runUnpack(ctx, file, v.Format, dir)
	if err != nil {
		return "", err
	}
	if v.Content != "" && string(content) != v.Content {
		return "", fmt.Errorf("%w: its content is %s, and %s was ordered", errCorrupt, content, v.Content)
	}
	if err := closeDirectory(dir); err != nil {
		return "", noSpace(err)
	}
	into := s.path(content.Hex())
	if err := os.Rename(dir, into); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return "", fmt.Errorf("cannot keep the bundle: %w", err)
	} else if err != nil { // it is there already, by another layer
		if err := removeAll(dir); err != nil {
			return "", err
		}
	}
	if err := atomicfile.SyncDir(s.o.Dir); err != nil {
		return "", noSpace(err)
	}
	return into, s.noteContent(layer, content)
}

// runUnpack runs the process that unpacks, and returns the digest of the content. When it
// returns, all of its processes have ended.
func runUnpack(ctx context.Context, file, format, dir string) (bundle.Digest, error) {
	if mediaTypes[format] == "" {
		return "", fmt.Errorf("cannot unpack the bundle: unknown format %.20q", format)
	}
	layer, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("cannot unpack the bundle: %w", err)
	}
	defer layer.Close()
	into, err := os.Open(dir)
	if err != nil {
		return "", fmt.Errorf("cannot unpack the bundle: %w", err)
	}
	defer into.Close()
	ctx, cancel := context.WithTimeout(ctx, unpackTime)
	defer cancel()
	var out, faults strings.Builder
	c := exec.CommandContext(ctx, "/proc/self/exe", unpackCommand, format)
	c.Stdin, c.Stdout, c.Stderr, c.Dir, c.ExtraFiles, c.Env = layer, &out, &faults, "/", []*os.File{into}, []string{"GOMEMLIMIT=24MiB", "GOMAXPROCS=1"}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if c.SysProcAttr.Credential, err = unpackUser(); err != nil {
		return "", err
	}
	if cred := c.SysProcAttr.Credential; cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return "", fmt.Errorf("cannot unpack the bundle: %w", err)
		}
	}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	err = c.Run()
	if c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // it starts nothing; what it started is gone
	}
	if err != nil {
		text := strings.TrimSpace(faults.String())
		if strings.Contains(text, syscall.ENOSPC.Error()) || strings.Contains(text, syscall.EDQUOT.Error()) {
			return "", fmt.Errorf("%w: %s", ErrNoSpace, text)
		}
		if text == "" {
			text = err.Error()
		}
		return "", fmt.Errorf("%w: %.500s", errCorrupt, text)
	}
	return bundle.ParseDigest(strings.TrimSpace(out.String()))
}

// unpackUser returns as whom bundles are unpacked; nil: as the agent, which is not root.
func unpackUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range unpackUsers {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil || uid == 0 {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}, nil
	}
	return nil, fmt.Errorf("cannot unpack the bundle: there is no user %s: make install makes the first", strings.Join(unpackUsers, " or "))
}
