package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/jmbarzee/dominion/topics"
)

// Identity digests what of a spec is rolled out instance by instance: what
// needs a restart, and how it is told to be well. Timeouts and the restart
// policy harm no instance that is well, so they are in force everywhere at once.
func Identity(s topics.Spec) string {
	return s.Revision + "." + digest(string(topics.Encode(s.Health)))
}

// Revise returns the revision of a spec that restarts an instance for the
// version of its catalog. Another attempt gives another revision.
func Revise(revision, version string, attempt int) string {
	return Base(revision) + "-" + digest(version+"\x00"+strconv.Itoa(attempt))
}

// Base returns the revision of the definition that a revision was made of.
func Base(revision string) string {
	base, _, _ := strings.Cut(revision, "-")
	return base
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}
