// Package facts finds out about the machine that an agent runs on: who it is,
// which services are on its disk, where it is reached and how busy it is. It
// reads files, /proc and /sys, and nothing else; it keeps no goroutine.
//
// It decides nothing and publishes nothing. Only the agent imports it, and
// calls it from its one loop.
package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/internal/filelock"
	"github.com/jmbarzee/dominion/topics"
)

// Lock holds a data_dir for one agent, until the returned file is closed or
// the process ends.
func Lock(dataDir string) (*os.File, error) {
	path := filepath.Join(dataDir, "lock")
	f, err := filelock.Lock(path)
	if errors.Is(err, unix.EROFS) { // a worn SD card; services matter more than files
		f, err = filelock.LockExisting(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot start for the first time with data_dir %s: its disk is read-only: mount it writable once, or set data_dir to a place on another disk", dataDir)
		}
	}
	if errors.Is(err, filelock.ErrInUse) {
		return nil, fmt.Errorf("cannot use data_dir %s: another agent uses it (stop that one, or give this one a data_dir of its own)", dataDir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot lock data_dir: %w", err)
	}
	return f, nil
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// IdentityFile is the file of data_dir that holds the id of the domain.
const IdentityFile = "id"

// Identity returns the id of this domain, which is made once and persisted in
// data_dir/id. A file that a power cut broke is set aside and a new id made.
// Where there is none, running returns the id that processes of services carry
// which were started from this data_dir, "" where there are none.
func Identity(dataDir string, running func() string, log *slog.Logger) (string, error) {
	path := filepath.Join(dataDir, IdentityFile)
	for _, p := range []string{path, path + atomicfile.Previous} {
		b, err := os.ReadFile(p)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("cannot read the id of this domain: %w", err)
		}
		if id := strings.TrimSpace(string(b)); uuidPattern.MatchString(id) {
			return id, nil
		}
		if err == nil {
			log.Warn("the file of this domain's id is broken, set aside", "file", p, "as", p+atomicfile.Broken)
			if err := os.Rename(p, p+atomicfile.Broken); err != nil {
				return "", fmt.Errorf("cannot set %s aside: %w", p, err)
			}
		}
	}
	id := topics.NewID()
	if carried := running(); uuidPattern.MatchString(carried) {
		id = carried
		log.Warn("data_dir was emptied while services ran: they are taken over", "data_dir", dataDir, "id", id)
	}
	return id, atomicfile.Write(path, []byte(id+"\n"), 0o600)
}
