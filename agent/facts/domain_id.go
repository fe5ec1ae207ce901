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

	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

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
