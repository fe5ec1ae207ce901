package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// load reads a file by what its name begins with.
func load(file string, environ []string) error {
	var err error
	switch kind, _, _ := strings.Cut(filepath.Base(file), "-"); kind {
	case "dominion":
		_, err = loadDominion(file, environ, testHost)
	case "domain":
		_, err = loadDomain(file, environ, testHost)
	case "service":
		_, err = LoadService(file)
	default:
		err = errors.New("what kind of file is this?")
	}
	return err
}

// Each file in testdata/faults has its transcript beside it. Lines that begin
// with "# env: " are its environment.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var environ []string
			for line := range strings.Lines(string(text)) {
				if v, is := strings.CutPrefix(line, "# env: "); is {
					environ = append(environ, strings.TrimSpace(v))
				}
			}
			err = load(file, environ)
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("want Faults, got %v", err)
			}
			got := strings.ReplaceAll(err.Error(), "testdata/faults/", "") + "\n"
			transcript := strings.TrimSuffix(file, ".toml") + ".txt"
			if *update {
				if err := os.WriteFile(transcript, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(transcript)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
