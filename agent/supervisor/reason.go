package supervisor

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/jmbarzee/dominion/agent/logs"
)

// output is where a life of a service writes to, from which its end is
// explained.
type output struct {
	stdout, stderr logPosition
	// make is set where the process is make, bundled where its directory is a bundle.
	make, bundled bool
}

// logPosition is a log and where in it this life begins.
type logPosition struct {
	path string
	from int64
}

// output records where the logs of a life begin. A log that could not be opened is
// not used.
func (s *Supervisor) output(v *service, stdout, stderr *os.File) output {
	dir := filepath.Join(s.o.LogDir, v.Service)
	return output{begins(dir, "stdout.log", stdout), begins(dir, "stderr.log", stderr), len(v.life.plan.manifest.Command) == 0, v.life.bundle != nil}
}

func begins(dir, name string, f *os.File) logPosition {
	if f == nil {
		return logPosition{}
	}
	info, err := f.Stat()
	if err != nil {
		return logPosition{}
	}
	return logPosition{filepath.Join(dir, name), info.Size()}
}

// What is read of a log to explain an end, and shown of it.
const (
	maxTail   = 8 << 10
	maxReason = 200 // characters
)

// lines returns the last lines of this life that are not empty.
func (w logPosition) lines() []string {
	if w.path == "" {
		return nil
	}
	f, err := os.OpenFile(w.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	from := w.from
	if info.Size() < from { // it was cut meanwhile
		from = 0
	}
	from = max(from, info.Size()-maxTail)
	b, _ := io.ReadAll(io.NewSectionReader(f, from, maxTail))
	var lines []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(logs.Clean([]byte(line))); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// The messages of make (GNU make, "Errors in Recipes"): "make: *** [Makefile:2: run] Error 1",
// "make: *** No rule to make target 'run'.  Stop." and "make: 'run' is up to date.".
var (
	makeError    = regexp.MustCompile(`^make(?:\[\d+\])?: \*\*\* (?:\[.*\] (?:Error (\d+)|(.+))|(.+))$`)
	makeUpToDate = regexp.MustCompile(`^make: ('.*' is up to date\.|Nothing to be done for '.*'\.)$`)
)

// explain returns why a process ended: its exit code and the last line that it
// wrote. make ends with code 2 whatever happened, so its message is read for the
// code of the service. It is called beside the loop.
func (o output) explain(e Exit) exited {
	ev := exited{code: e.code(), message: e.String(), leftovers: e.Leftovers}
	if ev.code == nil {
		return ev
	}
	if *ev.code == 0 {
		if o.make {
			o.explainNothing(&ev)
		}
		return ev
	}
	code, ended, last := *ev.code, "", ""
	for _, w := range []logPosition{o.stderr, o.stdout} {
		lines := w.lines()
		for i := len(lines) - 1; i >= 0 && last == ""; i-- {
			found := makeError.FindStringSubmatch(lines[i])
			switch {
			case !o.make || found == nil:
				last = lines[i]
			case found[1] != "":
				_, _ = fmt.Sscan(found[1], &code)
			case found[2] != "":
				ended = found[2] // by a signal
			default:
				ev.message, ev.unstartable = "make: "+found[3], true
				return ev
			}
		}
	}
	if ended != "" {
		ev.message = "ended by a signal: " + ended
	} else {
		ev.message = fmt.Sprintf("exited with code %d", code)
	}
	if r := []rune(last); len(r) > maxReason {
		last = string(r[:maxReason]) + "…"
	}
	if last != "" {
		ev.message += ": " + last
	}
	if o.bundled && readOnly(last) {
		ev.message += readOnlyHint
	}
	ev.unstartable = code == 126 || code == 127 || cannotStart(last) // sh(1): not executable, not found
	return ev
}

// readOnlyHint follows the reason of a deployed service that may have tried to write in its
// directory.
const readOnlyHint = " (the directory of a deployed service is read-only: it may write in SERVICE_DATA_DIR alone)"

// readOnly reports whether a program's last line is of a file that it may not write.
func readOnly(line string) bool {
	line = strings.ToLower(line)
	return strings.Contains(line, "permission denied") || strings.Contains(line, "read-only") || strings.Contains(line, "readonly")
}

// explainNothing is of a make that had nothing to do: nothing was started.
func (o output) explainNothing(ev *exited) {
	lines := o.stdout.lines()
	if len(lines) == 0 || !makeUpToDate.MatchString(lines[len(lines)-1]) {
		return
	}
	ev.message += fmt.Sprintf(": %s: a file or directory has the name of the target, or it has no recipe (write .PHONY: and its name into the Makefile)", strings.TrimSuffix(lines[len(lines)-1], "."))
	ev.unstartable = true
}

// cannotStart reports whether a program's last line is one of the errors that
// do not go away by trying again on this machine (strerror(3)).
func cannotStart(line string) bool {
	line = strings.ToLower(line)
	return strings.Contains(line, "address already in use") || strings.Contains(line, "permission denied")
}
