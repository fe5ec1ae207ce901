package supervisor

import (
	"maps"
	"strings"
	"testing"
	"time"
)

func TestParseNotify(t *testing.T) {
	for in, want := range map[string]notified{
		"READY=1":                            {ready: true},
		"READY=0":                            {},
		"STATUS=warm\nREADY=1\n":             {ready: true, status: "warm"},
		"WATCHDOG=1":                         {alive: true},
		"WATCHDOG=trigger":                   {trigger: true},
		"STOPPING=1":                         {stopping: true},
		"RELOADING=1\nMONOTONIC_USEC=7":      {reloading: true},
		"RELOADING=1\nREADY=1":               {ready: true},
		"READY=1\nRELOADING=1":               {ready: true, reloading: true},
		"EXTEND_TIMEOUT_USEC=2500000":        {extend: 2500 * time.Millisecond},
		"EXTEND_TIMEOUT_USEC=99999999999999": {extend: maxExtension},
		"EXTEND_TIMEOUT_USEC=-1":             {},
		"EXTEND_TIMEOUT_USEC=x":              {},
		"":                                   {},
		"=":                                  {},
		"STATUS=\x1b[31mred\xff":             {status: "[31mred\uFFFD"},
		"STATUS=" + strings.Repeat("ü", 500): {status: strings.Repeat("ü", maxStatus)},
	} {
		if got := parseNotify(in); got != want {
			t.Errorf("%q is %+v, want %+v", in, got, want)
		}
	}
}

// A service that notifies on and on fills no queue, and its READY is not lost.
func TestNotificationsAreOneEvent(t *testing.T) {
	posted := 0
	n := &notifySocket{}
	post := func(event) { posted++ }
	for _, m := range []string{"STATUS=a", "READY=1", "WATCHDOG=1", "STATUS=b", "X=1"} {
		n.receive(parseNotify(m), post)
	}
	if ev := n.take(); posted != 1 || ev != (notified{ready: true, alive: true, status: "b"}) {
		t.Errorf("posted %d times, %+v", posted, ev)
	}
	n.receive(notified{}, post)
	n.receive(notified{status: "c"}, post)
	if ev := n.take(); posted != 2 || ev != (notified{status: "c"}) {
		t.Errorf("posted %d times, %+v", posted, ev)
	}
}

func TestParseEnvironment(t *testing.T) {
	got, err := parseEnvironment("f", "\ufeffZ=1\n# comment\n\n A=1\nexport B = \"two words\"\nC='x'\nD=a=b\nE=\n; other\r\nF=\"\r\n")
	want := map[string]string{"Z": "1", "A": "1", "B": "two words", "C": "x", "D": "a=b", "E": "", "F": `"`}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	for text, want := range map[string]string{
		"A=1\nsecret":  "f:2: no KEY=VALUE",
		"MAKEFLAGS=-n": "f:1: MAKEFLAGS may not be set",
		"1=2":          "f:1:",
	} {
		if _, err := parseEnvironment("f", text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParsers(f *testing.F) {
	f.Add("A=1\nexport B='x'\n")
	f.Add("READY=1\nSTATUS=x")
	f.Fuzz(func(t *testing.T, text string) {
		all, _ := parseEnvironment("f", text)
		for k, v := range all {
			if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
				t.Errorf("%q=%q", k, v)
			}
		}
		if ev := parseNotify(text); len([]rune(ev.status)) > maxStatus {
			t.Errorf("%d runes of status", len([]rune(ev.status)))
		}
	})
}
