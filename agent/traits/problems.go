package traits

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// A trait that comes and goes as often as this within flapsWithin is a problem.
const (
	maxFlaps    = 6
	flapsWithin = 10 * time.Minute
)

// fault returns why the result of a command does not count; "" if it does, also of a
// command that failed: a plain exit code means that the trait is absent.
func fault(ctx context.Context, err error, command []string, timeout time.Duration) string {
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return ""
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Sprintf("%s did not end within %s: make it quicker, or set its timeout in [traits_from]", command[0], timeout)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Sprintf("there is no program %s in PATH: install it, or correct its command in [traits_from]", command[0])
	}
	code, exited := exitCode(err)
	if code == 126 || code == 127 {
		return fmt.Sprintf("%s ended with code %d, as a shell does that cannot find or execute a program: install it, or correct its command in [traits_from]", command[0], code)
	}
	if exited {
		return ""
	}
	return fmt.Sprintf("cannot run %s: %v: correct its command in [traits_from]", command[0], err)
}

var exitCodePattern = regexp.MustCompile(`exited with code (\d+)$`)

// exitCode returns the exit code of a command that ended with one.
func exitCode(err error) (code int, exited bool) {
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode(), ended.Exited()
	}
	if m := exitCodePattern.FindStringSubmatch(err.Error()); m != nil {
		code, err := strconv.Atoi(m[1])
		return code, err == nil
	}
	return 0, false
}

// recordChange records that a trait came or went.
func (s *source) recordChange(now time.Time) {
	s.changes = append(slices.Clone(s.changes[max(0, len(s.changes)-maxFlaps+1):]), now)
}

func (s *source) flapping(now time.Time) bool {
	return len(s.changes) == maxFlaps && now.Sub(s.changes[0]) < flapsWithin
}

// Problems returns what is wrong with the sources of traits, in the order of
// their names.
func (w *Watch) Problems(now time.Time) []string {
	var all []string
	for _, s := range w.sources {
		if s.fault != "" {
			all = append(all, fmt.Sprintf("the trait %s is not offered: %s", s.Trait, s.fault))
		}
		if s.flapping(now) {
			all = append(all, fmt.Sprintf("the trait %s came and went %d times within %d minutes, and services follow it: look at %s", s.Trait, maxFlaps, flapsWithin/time.Minute, s.origin()))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// origin names where a trait comes from.
func (s *source) origin() string {
	if s.Path != "" {
		return "its path " + s.Path + " (a loose plug, a weak supply?)"
	}
	if s.MQTT != "" {
		return "who publishes at " + s.MQTT
	}
	return "its command " + s.Command[0]
}
