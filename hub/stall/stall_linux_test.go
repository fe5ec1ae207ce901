package stall

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The figures are those of this process: what runs adds to them.
func TestRead(t *testing.T) {
	before := Read()
	if !before.Available {
		t.Fatal("there are no figures on Linux")
	}
	for began := time.Now(); Read().Ran-before.Ran < 20*time.Millisecond; {
		if time.Since(began) > time.Minute {
			t.Fatal("a minute of work adds nothing to the CPU time")
		}
	}
	after := Read()
	if d := after.Suspended - before.Suspended; d < -time.Millisecond || d > time.Minute {
		t.Errorf("suspended for %v meanwhile", d)
	}
	if after.Memory < before.Memory || after.Faults < before.Faults {
		t.Errorf("totals that fall: %+v, then %+v", before, after)
	}
}

func TestPressure(t *testing.T) {
	name := filepath.Join(t.TempDir(), "memory")
	for text, want := range map[string]time.Duration{
		"some avg10=81.41 avg60=70.34 avg300=83.78 total=9698944\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n": 9698944 * time.Microsecond,
		"some avg10=0.00": -1,
		"":                -1,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, known := pressure(name); known != (want >= 0) || known && got != want {
			t.Errorf("%q: %v, %v", text, got, known)
		}
	}
	if _, known := pressure(name + "-missing"); known {
		t.Error("a kernel without PSI has some")
	}
}

func BenchmarkRead(b *testing.B) {
	for b.Loop() {
		Read()
	}
}
