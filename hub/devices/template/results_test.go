package template

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"testing"
)

// result is a row of testdata/results.jsonl: what the real Home Assistant makes
// of a template and a payload. The end-to-end test TestHomeAssistantTemplates
// compares the table with it, and writes it with -update.
type result struct {
	Template    string  `json:"template"`
	Payload     string  `json:"payload"`
	Result      *string `json:"result"`
	Ignored     string  `json:"ignored"`     // the Python error because of which it ignores the payload
	Refused     bool    `json:"refused"`     // as no template
	Unsupported bool    `json:"unsupported"` // by this package
}

func resultsOf(t testing.TB) (all []result) {
	t.Helper()
	f, err := os.Open("testdata/results.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		all = append(all, r)
	}
	if len(all) < 500 {
		t.Fatalf("%d rows", len(all))
	}
	return all
}

// What is rendered is what Home Assistant renders, and what is not supported
// has a name.
func TestResultsOfHomeAssistant(t *testing.T) {
	for _, r := range resultsOf(t) {
		rendered, err := "", error(nil)
		parsed, parseErr := Parse(r.Template)
		if err = parseErr; err == nil {
			rendered, err = parsed.Render(NewPayload(r.Payload))
		}
		var other *Unsupported
		switch {
		case r.Unsupported:
			if !errors.As(err, &other) || other.What == "" {
				t.Errorf("%s of %s is %q, %v, and should not be supported", r.Template, r.Payload, rendered, err)
			}
		case r.Refused:
			if parseErr == nil {
				t.Errorf("%s is refused by Home Assistant", r.Template)
			}
		case r.Ignored != "":
			if !errors.Is(err, ErrIgnored) {
				t.Errorf("%s of %s is %q, %v, and a %s in Home Assistant", r.Template, r.Payload, rendered, err, r.Ignored)
			}
		case err != nil || r.Result == nil || rendered != *r.Result:
			t.Errorf("%s of %s is %q, %v, and %q in Home Assistant", r.Template, r.Payload, rendered, err, *r.Result)
		}
	}
}
