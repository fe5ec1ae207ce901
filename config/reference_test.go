package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every key that can be written has its place in the reference.
func TestReference(t *testing.T) {
	doc, err := os.ReadFile("../docs/reference/config.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file, section string
		read          func(root *table)
	}{
		{"testdata/full-dominion.toml", "dominion.toml", func(root *table) { d := defaults(); root.dominion(&d) }},
		{"testdata/full-domain.toml", "domain.toml", func(root *table) { root.domain(&Domain{}) }},
	} {
		_, section, found := strings.Cut(string(doc), "\n## "+c.section+"\n")
		if !found {
			t.Fatalf("docs/reference/config.md has no section %s", c.section)
		}
		if c.section == "domain.toml" {
			section, _, _ = strings.Cut(section, "\n## ")
		}
		l, root := open(c.file, "", nil)
		if root == nil {
			t.Fatal(l.faults)
		}
		c.read(root)
		if len(l.known) < 10 {
			t.Fatalf("%s: only %d keys were looked for", c.file, len(l.known))
		}
		for _, k := range l.known {
			if k.table == "services" || k.table == "traits_from" { // names of the user's choice
				continue
			}
			if !regexp.MustCompile("[`.[{, ]" + regexp.QuoteMeta(k.key) + "[`\\]}, =]").MatchString(section) {
				t.Errorf("docs/reference/config.md says nothing of %s.%s", k.table, k.key)
			}
		}
	}
}
