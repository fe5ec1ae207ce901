package supervisor

import (
	"os"
	"strconv"
	"testing"
)

// TestOwnerByNumber: run_as takes a user's number, as the configuration says.
func TestOwnerByNumber(t *testing.T) {
	uid := strconv.Itoa(os.Getuid())
	if o, err := findOwner(uid); err != nil || o.credential != nil {
		t.Errorf("run_as = %q: %+v, %v", uid, o, err)
	}
	if _, err := findOwner("4294967290"); err == nil {
		t.Error("a user that is not there was found")
	}
}
