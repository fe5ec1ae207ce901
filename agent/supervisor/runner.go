package supervisor

import (
	"context"
	"fmt"
	"os"
	"syscall"
)

// Runner starts and signals processes: the seam between what is decided here
// and the kernel. newRunner is the real one; tests on virtual time fake it,
// because a live child stops their clock.
type Runner interface {
	// Start begins c as the leader of a session and process group of its own.
	// tell is called from another goroutine when the leader ended, and, if that
	// left others of its life behind (Exit.Left), again when they are gone.
	Start(c Command, tell func(Exit)) (Group, error)

	// Adopt watches a group that another run of the agent started: its leader,
	// or where that is gone, the members that carry the token in their
	// environment. It tells as Start does, without a code. false: nothing of the
	// group is left, whatever may have its number now; what carries the token
	// elsewhere is ended.
	Adopt(g Group, token string, tell func(Exit)) bool

	// Lives lists what is of a domain, by its id in their environment, one for each
	// token: what was started here and may not be noted anywhere.
	Lives(domain string) []Life

	// Signal sends to every member of the group, if it is still that group, and
	// to what left it.
	Signal(g Group, s syscall.Signal)

	// Check runs c to its end, in a group of its own that is killed when ctx
	// ends. Only exit code 0 is no error.
	Check(ctx context.Context, c Command) error

	// Boot identifies this boot of the machine: groups of another are gone.
	Boot() string

	// Close lets go of all processes.
	Close()
}

// Group is a process group that cannot be mistaken for a later one of its
// number, with what left it and is of the same life all the same.
type Group struct {
	// Of its leader, which names the group.
	PID int `json:"pid"`
	// Of its leader, in the kernel's ticks since boot.
	Started uint64 `json:"started"`
	// Directory of the life's control group; empty: it has none.
	Cgroup string `json:"cgroup,omitempty"`

	// DOMINION_INSTANCE, which marks a life that has no control group.
	token string
	// It was started by another run of the agent.
	adopted bool
}

// Life is one life of a service, as the kernel shows it.
type Life struct {
	Token string
	// Zero: what carries the token is in groups of others.
	Group Group
	// Of the process that was looked at: the leader, where it lives.
	UID int
	// That it was started with.
	Env map[string]string
	// As it shows them now.
	Args []string
}

// Command is a program to start.
type Command struct {
	Path string
	// With the program's name first.
	Args []string
	Env  []string
	Dir  string
	// Nil: /dev/null.
	Stdout, Stderr *os.File
	Credential     *syscall.Credential
}

// Exit says how a process ended.
type Exit struct {
	Code int
	// 0: it ended with Code.
	Signal syscall.Signal
	// False: somebody else's child, nobody knows how.
	Known bool
	// Others of its life are still there.
	Leftovers bool
}

func (e Exit) String() string {
	switch {
	case !e.Known:
		return "it ended while nobody could see how"
	case e.Signal != 0:
		return fmt.Sprintf("killed by %s", signalName(e.Signal))
	}
	return fmt.Sprintf("exited with code %d", e.Code)
}

func (e Exit) code() *int {
	if !e.Known || e.Signal != 0 {
		return nil
	}
	return &e.Code
}

func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGKILL:
		return "SIGKILL"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGSEGV:
		return "SIGSEGV"
	case syscall.SIGABRT:
		return "SIGABRT"
	case syscall.SIGHUP:
		return "SIGHUP"
	}
	return fmt.Sprintf("signal %d", int(s))
}
