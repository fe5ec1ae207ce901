package template

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Whatever a template asks for, it is refused by name before it takes time or
// memory.
func TestRenderingIsBounded(t *testing.T) {
	nested := func(open, inner, end string, n int) string {
		return "{{ " + strings.Repeat(open, n) + inner + strings.Repeat(end, n) + " }}"
	}
	double := func(first, next string, n int) string {
		var b strings.Builder
		fmt.Fprintf(&b, "{%% set a0 = %s %%}", first)
		for i := range n {
			fmt.Fprintf(&b, "{%% set a%d = %s %%}", i+1, strings.ReplaceAll(next, "?", fmt.Sprintf("a%d", i)))
		}
		return b.String()
	}
	for what, c := range map[string]struct{ template, payload string }{
		"brackets":                {nested("(", "1", ")", 1000), ""},
		"lists":                   {nested("[", "1", "]", 1000), ""},
		"signs":                   {nested("-", "1", "", 1000), ""},
		"negations":               {nested("not ", "1", "", 1000), ""},
		"choices":                 {nested("1 if 0 else ", "1", "", 1000), ""},
		"statements":              {strings.Repeat("{% if 1 %}", 1000) + strings.Repeat("{% endif %}", 1000), ""},
		"a text that is repeated": {"{{ 'abc' * 100000000 }}", ""},
		"an overflow":             {"{{ 'abc' * 9223372036854775807 }}", ""},
		"a text that is doubled":  {double("value", "? ~ ?", 30), strings.Repeat("x", 100)},
		"a list that is doubled":  {double("[1]", "? + ?", 30), ""},
		"a tree that is shown":    {double("[1]", "[?, ?]", 40) + "{{ a40 }}", ""},
		"a tree that is compared": {double("[1]", "[?, ?]", 40) + double("[1]", "[?, ?]", 40) + "{{ a40 == [a39, a39] }}{{ a40 == a40 }}", ""},
		"texts that are replaced": {"{{ value | replace('', value) }}", strings.Repeat("x", 10_000)},
		"a text that is joined":   {"{{ value | join(value) }}", strings.Repeat("x", 10_000)},
		"many texts":              {strings.Repeat("{{ value }}", 100), strings.Repeat("x", 1000)},
		"a long payload":          {"{{ value }}", strings.Repeat("x", maxText+1)},
		"a deep payload":          {"{{ value_json }}", strings.Repeat("[", 5000) + strings.Repeat("]", 5000)},
		"a large power":           {"{{ 2 ** 1000 }}", ""},
		"a regular expression":    {"{{ value | regex_search('(.*){1000}(.*){1000}x') }}", "a"},
		"a long match":            {"{{ value | regex_search('(.*)*(.*)*x') }}", strings.Repeat("a", maxMatched+1)},
	} {
		began := time.Now()
		rendered := ""
		parsed, err := Parse(c.template)
		if err == nil {
			rendered, err = parsed.Render(NewPayload(c.payload))
		}
		var other *Unsupported
		if !errors.As(err, &other) {
			t.Errorf("%s: %.50q, %v", what, rendered, err)
		}
		if took := time.Since(began); took > 3*time.Second { // it takes a millisecond
			t.Errorf("%s took %v", what, took)
		}
	}
}

// FuzzRender holds for whatever comes: nothing panics, and what is rendered is
// bounded and the same each time.
func FuzzRender(f *testing.F) {
	for _, r := range resultsOf(f) {
		f.Add(r.Template, r.Payload)
	}
	f.Fuzz(func(t *testing.T, template, payload string) {
		if len(template) > 1024 {
			return
		}
		began := time.Now()
		parsed, err := Parse(template)
		if err != nil {
			return
		}
		shared := NewPayload(payload)
		rendered, err := parsed.Render(shared)
		again, errAgain := parsed.Render(shared)
		if rendered != again || (err == nil) != (errAgain == nil) {
			t.Errorf("%q, %v, then %q, %v", rendered, err, again, errAgain)
		}
		if len(rendered) > maxText+len(payload)+len(template) {
			t.Errorf("%d bytes", len(rendered))
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%.100q took %v", template, took)
		}
	})
}

func BenchmarkRender(b *testing.B) {
	for _, template := range []string{"{{ value_json.state }}", "{{'true' if value_json.value else 'false'}}"} {
		parsed, err := Parse(template)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(template, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = parsed.Render(NewPayload(`{"state":"online","value":true}`))
			}
		})
	}
}
