package supervisor

import (
	"context"
	"fmt"
	"os"
	"syscall"
)

// Runner starts and signals processes: the interface between decisions and the
// kernel. newRunner returns the real one; tests on virtual time have their own,
// because a real child process stops their clock.
type Runner interface {
	// Start begins c as the leader of a session and process group of its own.
	// onExit is called from another goroutine when the leader ended, and, if others
	// of its life are left (Exit.Leftovers), again when they have ended.
	Start(c Command, onExit func(Exit)) (Group, error)

	// Adopt watches a group that another run of the agent started: its leader,
	// or where that is gone, the members that carry the token in their
	// environment. It calls onExit as Start does, without a code. It returns false if
	// nothing of the group is left, whatever may have its number now; processes with
	// the token in other groups are then ended.
	Adopt(g Group, token string, onExit func(Exit)) bool

	// Lives lists the lives of a domain, by its id in the environment of processes,
	// one for each token: what was started here and may have no record.
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
	// PID is that of its leader, which names the group.
	PID int `json:"pid"`
	// Started is when its leader started, in the kernel's ticks since boot.
	Started uint64 `json:"started"`
	// Cgroup is the directory of the life's control group; empty: it has none.
	Cgroup string `json:"cgroup,omitempty"`

	// token is DOMINION_INSTANCE, which identifies a life that has no control group.
	token string
	// adopted reports that it was started by another run of the agent.
	adopted bool
}

// Life is one life of a service, as the kernel shows it.
type Life struct {
	Token string
	// Group is zero if the processes with the token are in groups of others.
	Group Group
	// UID is the user of the leader, or of another process if that has ended.
	UID int
	// Env is the environment that it was started with.
	Env map[string]string
	// Args are its arguments as it shows them now.
	Args []string
}

// Command is a program to start.
type Command struct {
	Path string
	// Args are the arguments, the program's name first.
	Args []string
	Env  []string
	Dir  string
	// Stdout and Stderr may be nil: /dev/null.
	Stdout, Stderr *os.File
	Credential     *syscall.Credential
}

// Exit is how a process ended.
type Exit struct {
	Code int
	// Signal is the signal that ended it; 0: it ended with Code.
	Signal syscall.Signal
	// Known reports that Code and Signal are set. Those of a process that is not
	// the agent's child are not.
	Known bool
	// Leftovers reports that other processes of its life are alive.
	Leftovers bool
}

func (e Exit) String() string {
	if !e.Known {
		return "it ended while nobody could see how"
	}
	if e.Signal != 0 {
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

// requestStop asks processes to end, by the signal that requests it. What is not
// gone within its stop timeout is killed.
func requestStop(send func(syscall.Signal)) {
	send(syscall.SIGTERM)
	send(syscall.SIGCONT) // so that a stopped process handles SIGTERM
}

// signalName returns the name of a signal that commonly ends processes, or its
// number.
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
