package passwordfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/internal/passwordfile"
)

func TestRead(t *testing.T) {
	for name, c := range map[string]struct{ content, password, fault string }{
		"a line":              {"s3cret\n", "s3cret", ""},
		"without its end":     {"s3cret", "s3cret", ""},
		"of Windows":          {"s3cret\r\n", "s3cret", ""},
		"more lines":          {"s3cret\nof the kitchen\n", "s3cret", ""},
		"spaces belong to it": {" s3 cret \n", " s3 cret ", ""},
		"an empty file":       {"", "", "empty first line"},
		"an empty first line": {"\ns3cret\n", "", "empty first line"},
		"as long as it may":   {strings.Repeat("x", 65_535) + "\n", strings.Repeat("x", 65_535), ""},
		"longer":              {strings.Repeat("x", 65_536), "", "longer than a password may be"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := passwordfile.Read(file)
			switch {
			case c.fault == "" && (err != nil || got != c.password):
				t.Errorf("%.20q, %v", got, err)
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "s3cret")):
				t.Errorf("%.20q, %v", got, err)
			}
		})
	}
	if _, err := passwordfile.Read("/no/such/file"); err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Error(err)
	}
	if _, err := passwordfile.Read("/dev/zero"); err == nil {
		t.Error("a file without an end has a password")
	}
}
