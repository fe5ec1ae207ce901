package conformance

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestMain lets tests that wait for the server's clock (keep alive, expiry,
// will delay) wait side by side: they cost time, not work.
func TestMain(m *testing.M) {
	flag.Parse()
	if fuzzing := flag.Lookup("test.fuzz"); fuzzing == nil || fuzzing.Value.String() == "" { // it starts as many workers
		_ = flag.Set("test.parallel", "48")
	}
	os.Exit(m.Run())
}

// tests are all of them, by the chapters of the standard.
func tests() []test {
	return slices.Concat(framingTests(), connectTests(), sessionTests(), willTests(), publishTests(),
		propertyTests(), retainTests(), subscribeTests(), sharedTests(), deliveryTests(), flowTests(), endTests(), webSocketTests())
}

// servers are what can be tested here.
func servers() map[string]func(testing.TB) *target {
	return map[string]func(testing.TB) *target{"mosquitto": mosquitto, "engine": embedded, "stored": stored, "product": product}
}

func key(version byte, name string) string {
	if version == 5 {
		return "5.0 " + name
	}
	return "3.1.1 " + name
}

func TestConformance(t *testing.T) {
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := start(t)
			left, ran := map[string]bool{}, map[string]bool{}
			for k := range to.deviations {
				left[k] = true
			}
			for _, show := range tests() {
				for _, version := range []byte{4, 5} {
					if len(show.statements(version)) == 0 {
						continue
					}
					k := key(version, show.name)
					delete(left, k)
					ran[k] = true
					t.Run(k, func(t *testing.T) {
						t.Parallel()
						judge(t, to, version, k, show)
					})
				}
			}
			for k := range left {
				if test, _, row := strings.Cut(k, ": "); row && ran[test] {
					continue
				}
				t.Errorf("there is no test %q that %s could deviate in", k, to.name)
			}
		})
	}
}

// judge fails a test whose server does not do as it must, unless that is a
// known deviation; one that is known and does not show is wrong as well.
func judge(t *testing.T, to *target, version byte, key string, show test) {
	failed := try(t, to, version, key, show.run)
	why, known := to.deviations[key]
	switch {
	case failed == "" && known:
		t.Errorf("is known to deviate (%s) and does not", why)
	case failed != "" && known:
		t.Skipf("known: %s (%s)", why, failed)
	case failed != "":
		t.Errorf("%v: %s", show.statements(version), failed)
	}
}
