package services

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRange(t *testing.T) {
	for _, tt := range []struct{ text, holds, not string }{
		{"", "0.0.1 1 2.0.0-beta", ""},
		{"  ", "1.0.0", ""},
		{">=1.2", "1.2 1.2.0 v1.2 1.10.0 3 1.2.1", "1.1.9 0.9 1.2.0-rc.1"},
		{">= 1.2 <2", "1.2.0 1.9.9", "2 2.0.1 1.1"},
		{">=1.2 <2", "1.2.0 1.9.9", "2 2.0.1 1.1"},
		{"1.2 || >=3", "1.2.0 1.2 3 4.1", "1.2.1 2 2.9.9"},
		{"1.2||>= 3", "1.2.0 3", "2"},
		{"=1.2", "1.2.0", "1.2.1"},
		{"==1", "1.0.0", "1.0.1"},
		{"!=1.5 >1", "1.4 1.6", "1.5.0 1 0.9"},
		{">v1.2.3", "1.2.4", "1.2.3"},
		{"<=1.0.0-rc.2", "1.0.0-rc.1 0.9", "1.0.0 1.0.0-rc.3"},
		{"1.2.3+build", "1.2.3 1.2.3+other", "1.2.4"},
		{">=1 <2 || >=4 <5", "1.5 4.5", "0.1 3 5"},
	} {
		r, err := ParseRange(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		for _, v := range strings.Fields(tt.holds) {
			if !r.Contains(v) {
				t.Errorf("%q does not hold %s", tt.text, v)
			}
		}
		for _, v := range strings.Fields(tt.not) {
			if r.Contains(v) {
				t.Errorf("%q holds %s", tt.text, v)
			}
		}
		// A version that is missing or unreadable is in no range but the zero one.
		for _, v := range []string{"", "latest", "1.2.3.4"} {
			if zero := strings.TrimSpace(tt.text) == ""; r.Contains(v) != zero {
				t.Errorf("%q holds %q: %v", tt.text, v, !zero)
			}
		}
		again, err := ParseRange(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%q is shown as %q, which reads as %q, %v", tt.text, r, again, err)
		}
	}
	if !(Range{}).Contains("") || (Range{}).String() != "" {
		t.Error("the zero Range does not hold everything")
	}
}

func TestRangeRefuses(t *testing.T) {
	for _, s := range []string{
		"web", ">=", ">=x", "1.2.3.4", "1.x", "*", "^1.2", "~1.2", ">=1.2,<2", "||", "1 ||", "|| 1", "1 || || 2", "> > 1",
		">=01", ">=1.2-", "1.2 | 3", "99999999999999999999999", "≥1", ">=1.2\x00", "=>1",
	} {
		r, err := ParseRange(s)
		if err == nil {
			t.Errorf("%q was taken as %q", s, r)
			continue
		}
		if !strings.HasPrefix(err.Error(), "cannot read version range ") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestRangeOfNothing(t *testing.T) {
	for _, s := range []string{">=2 <1", ">1 <1", ">1 <=1", ">=1.2.3 <1.2.3", "1 !=1", "1 2", ">=2 <1 || >4 <3", "<0.0.0-0", ">=1.0.0-b <1.0.0-a"} {
		if r, err := ParseRange(s); !errors.Is(err, ErrNoVersion) {
			t.Errorf("%q was taken as %q: %v", s, r, err)
		}
	}
	for _, s := range []string{
		">=1 <=1", ">1.0.0 <1.0.1", ">1.0.0-a <1.0.0-b", "!=1", "<1", ">5", "!=0.0.0", ">=1 !=1", ">1.0.0 !=1.0.1-0 <1.0.1", ">=2 <1 || 3", "<=0", "<0.0.1",
		">=1.0.0-alpha <1.0.0", "=1.2.3+build", ">=1 !=1 !=1.0.1", "<0.0.0",
	} {
		if _, err := ParseRange(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParseDependency(t *testing.T) {
	for in, want := range map[string][2]string{
		"web":             {"web", ""},
		" web ":           {"web", ""},
		"web >=1.2":       {"web", ">=1.2"},
		"web  >= 1.2  <2": {"web", ">=1.2 <2"},
		"web>=1.2":        {"web", ">=1.2"},
		"web\t<2":         {"web", "<2"},
		"":                {"", ""},
	} {
		d, err := ParseDependency(in)
		if err != nil || d.Service != want[0] || d.Version.String() != want[1] {
			t.Errorf("%q: %q %q, %v", in, d.Service, d.Version, err)
		}
	}
	if _, err := ParseDependency("web soon"); err == nil || !strings.Contains(err.Error(), `dependency "web"`) || !strings.Contains(err.Error(), ">=1.2 <2") {
		t.Errorf("%v", err)
	}
}

func TestValidVersion(t *testing.T) {
	for v, want := range map[string]bool{"1": true, "1.2": true, "v1.2.3": true, "1.2.3-rc.1+b": true, "": false, "new": false, "1.2.3.4": false, "-1": false} {
		if ValidVersion(v) != want {
			t.Errorf("ValidVersion(%q) = %v", v, !want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{">=1.2 <2", "1.2 || >=3", "web", "!1", "1 || || 2", ">= 1", "<1-a"} {
		f.Add(s, "1.2.3")
	}
	f.Add(strings.Repeat(">=1 ", 60), strings.Repeat("1.", 100))
	f.Add(strings.Repeat("1||", 20_000)+"1", "1.0.0-"+strings.Repeat("a.", 20_000)+"a")
	f.Fuzz(func(t *testing.T, s, version string) {
		began := time.Now()
		r, err := ParseRange(s)
		r.Contains(version)
		if took := time.Since(began); took > 2*time.Second { // it takes microseconds
			t.Errorf("%d and %d bytes took %v", len(s), len(version), took)
		}
		if err != nil {
			return
		}
		holds := r.Contains(version)
		again, err := ParseRange(r.String())
		if err != nil {
			t.Fatalf("%q is shown as %q: %v", s, r, err)
		}
		if again.String() != r.String() || again.Contains(version) != holds {
			t.Errorf("%q is shown as %q, which is another range", s, r)
		}
	})
}

// What is longer than a range or a version may be is refused before it is read.
func TestLongVersions(t *testing.T) {
	if _, err := ParseRange(strings.Repeat(">=1 ", 64)); err != nil {
		t.Error(err)
	}
	if _, err := ParseRange(strings.Repeat(">=1 ", 25_000)); err == nil || len(err.Error()) > 200 {
		t.Errorf("%.300v", err)
	}
	long := "1.0.0-" + strings.Repeat("a", MaxVersion)
	if ValidVersion(long) || !ValidVersion(long[:MaxVersion]) {
		t.Error("the length of a version is not bounded")
	}
}
