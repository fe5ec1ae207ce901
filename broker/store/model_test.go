package store_test

import (
	"os"
	"testing"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/store/storetest"
)

// TestMain hands the model to the tests of the package's inside, which cannot import
// a package that imports theirs.
func TestMain(m *testing.M) {
	store.NewModel = func() store.Model { return storetest.NewModel() }
	os.Exit(m.Run())
}
