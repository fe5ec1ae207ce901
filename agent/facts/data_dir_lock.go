package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/jmbarzee/dominion/internal/filelock"
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
