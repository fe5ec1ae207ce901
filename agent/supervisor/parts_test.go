package supervisor

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHTTPCheck(t *testing.T) {
	h := newHost(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/broken", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	mux.HandleFunc("/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	server := httptest.NewServer(mux)
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	for path, want := range map[string]string{
		"/health": "", "health": "", "/moved": "", "/health?x=1": "",
		"/broken": "GET /broken answered 418 I'm a teapot", "/none": "GET /none answered 404 Not Found",
		"/hangs": "context deadline exceeded", "/%zz": `invalid URL escape "%zz"`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := h.s.checkHTTP(ctx, "", port, path)
		cancel()
		switch {
		case want == "" && err != nil, want != "" && err == nil, err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	server.Close()
	if err := h.s.checkHTTP(t.Context(), "127.0.0.1", port, "/health"); err == nil || !strings.Contains(err.Error(), "nothing listens on port") {
		t.Errorf("%v", err)
	}
}

// A service that listens on the machine's network address alone is found.
func TestTCPCheckOnTheAddress(t *testing.T) {
	h := newHost(t)
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if err := h.s.checkTCP(t.Context(), "127.0.0.2", port); err != nil {
		t.Error(err)
	}
	if err := h.s.checkTCP(t.Context(), "", port); err == nil {
		t.Error("found on loopback, where it is not")
	}
}

func TestParseNotify(t *testing.T) {
	for in, want := range map[string]notified{
		"READY=1":                            {ready: true},
		"READY=0":                            {},
		"STATUS=warm\nREADY=1\n":             {ready: true, status: "warm"},
		"WATCHDOG=1":                         {},
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

func TestParseEnvironment(t *testing.T) {
	got, err := parseEnvironment("f", "# comment\n\n A=1\nexport B = \"two words\"\nC='x'\nD=a=b\nE=\n; other\r\nF=\"\r\n")
	want := map[string]string{"A": "1", "B": "two words", "C": "x", "D": "a=b", "E": "", "F": `"`}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	for text, want := range map[string]string{
		"A=1\nsecret":      "f:2: no KEY=VALUE",
		"LD_PRELOAD=/x.so": "f:1: LD_PRELOAD may not be set",
		"1=2":              "f:1:",
	} {
		if _, err := parseEnvironment("f", text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParsers(f *testing.F) {
	f.Add("A=1\nexport B='x'\n")
	f.Add("READY=1\nSTATUS=x")
	f.Add("12 (a) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654")
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
		parseStat(1, []byte(text))
	})
}

func TestPortFree(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", ":0", "127.0.0.2:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("cannot try %s: %v", address, err)
			continue
		}
		port := l.Addr().(*net.TCPAddr).Port
		if portFree(port) {
			t.Errorf("%s is taken, but said to be free", address)
		}
		// A connection that was closed leaves TIME_WAIT behind, which is no obstacle.
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server.Close()
		c.Close()
		l.Close()
		if !portFree(port) {
			t.Errorf("%s is free, but said to be taken", address)
		}
	}
}

// Asking does not disturb others who ask.
func TestPortFreeAtTheSameTime(t *testing.T) {
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for range 500 {
				if !portFree(29999) {
					t.Error("taken")
					return
				}
			}
		})
	}
	asking.Wait()
}
