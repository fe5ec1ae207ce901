package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/zeroconf"
)

var testdata, _ = filepath.Abs("testdata")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dominionctl": program})
}

// program is cmd/dominionctl with a clock that stands still and a network
// that a file describes.
func program() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := Main(ctx, Env{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Version: "1.2.3",
		now:    func() time.Time { return noon },
		local:  os.Getenv("TEST_LOCAL"),
		browse: browseFile,
	})
	stop()
	os.Exit(code)
}

func browseFile(context.Context, time.Duration) ([]zeroconf.Found, error) {
	b, err := os.ReadFile(os.Getenv("TEST_FOUND"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []zeroconf.Found
	return found, json.Unmarshal(b, &found)
}

// TestScripts runs each verb as a user does. Commands beside testscript's:
//
//	hub [-prefix P] [-users]   starts a fake hub; $HUB is its host:port
//	exits CODE COMMAND…        runs a command that must end with this code
//	saw WHAT [N] REGEXP        the hub was asked that, and the last time with such a payload
//	available WORD             publishes hub/availability
//	json FILE                  the file is one JSON document
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			e.Values[holderKey{}] = &holder{}
			// a port where nobody listens
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			e.Setenv("TEST_LOCAL", "mqtt://"+l.Addr().String())
			e.Setenv("NOBODY", l.Addr().String())
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each command takes a second
			e.Setenv("TEST_FOUND", filepath.Join(e.WorkDir, "found.json"))
			return l.Close()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"hub": scriptHub, "exits": scriptExits, "saw": scriptSaw, "available": scriptAvailable, "json": scriptJSON,
		},
	})
}

type holderKey struct{}

// holder has the fake hub of one script.
type holder struct{ hub *fake }

func hubOf(ts *testscript.TestScript) *fake {
	h := ts.Value(holderKey{}).(*holder)
	if h.hub == nil {
		ts.Fatalf("no hub: write hub first")
	}
	return h.hub
}

func scriptHub(ts *testscript.TestScript, _ bool, args []string) {
	prefix, cfg := "", broker.Config{}
	for len(args) > 0 {
		switch args[0] {
		case "-prefix":
			prefix, args = args[1], args[1:]
		case "-users":
			// bound to every address, so that nobody is let in without a name
			cfg.Listen = "0.0.0.0:0"
			cfg.Users = []broker.User{
				{Name: "me", PasswordFile: ts.MkAbs("password"), Role: "admin"},
				{Name: "guest", PasswordFile: ts.MkAbs("password"), Role: "reader"},
			}
		default:
			ts.Fatalf("hub: %s?", args[0])
		}
		args = args[1:]
	}
	f, err := startFake(ts.MkAbs("."), prefix, cfg)
	ts.Check(err)
	_, port, err := net.SplitHostPort(f.address())
	ts.Check(err)
	ts.Setenv("HUB", "127.0.0.1:"+port)
	ts.Setenv("PORT", port)
	ts.Value(holderKey{}).(*holder).hub = f
	ts.Defer(func() { ts.Check(f.close()) })
}

func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, not %d", code, want)
	}
}

func scriptSaw(ts *testscript.TestScript, neg bool, args []string) {
	n := 1
	if len(args) > 2 {
		var err error
		n, err = strconv.Atoi(args[1])
		ts.Check(err)
		args = append(args[:1], args[2:]...)
	}
	payload, err := hubOf(ts).saw(args[0], n)
	ts.Check(err)
	if regexp.MustCompile(args[1]).MatchString(payload) == neg {
		ts.Fatalf("the hub was asked %s", payload)
	}
}

func scriptAvailable(ts *testscript.TestScript, _ bool, args []string) { hubOf(ts).available(args[0]) }

func scriptJSON(ts *testscript.TestScript, _ bool, args []string) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	var doc any
	if err := d.Decode(&doc); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	if err := d.Decode(&doc); !errors.Is(err, io.EOF) {
		ts.Fatalf("%s: more than one document", args[0])
	}
}
