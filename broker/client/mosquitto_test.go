package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// mosquitto starts Debian's broker on a port of loopback, with a user, and an
// ACL that keeps "secret/#" from it.
func mosquitto(t *testing.T) (url string, stop func()) {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		if program = "/usr/sbin/mosquitto"; !exists(program) {
			t.Skip("skipped: mosquitto is not installed")
		}
	}
	password, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		t.Skip("skipped: mosquitto_passwd is not installed")
	}
	dir := t.TempDir()
	// mosquitto gives up being root, and must still read its files
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(dir, "users")
	if out, err := exec.Command(password, "-b", "-c", users, "ann", "s3cret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v: %s", err, out)
	}
	if err := os.Chmod(users, 0o644); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	acl := filepath.Join(dir, "acl")
	config := filepath.Join(dir, "mosquitto.conf")
	for file, content := range map[string]string{
		acl:    "user ann\ntopic readwrite home/#\n",
		config: fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous false\npassword_file %s\nacl_file %s\nuser root\n", port, users, acl),
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "-c", config)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("mosquitto said:\n%s", said.String())
		}
	})
	t.Cleanup(stop)
	return fmt.Sprintf("mqtt://ann@127.0.0.1:%d", port), stop
}

func exists(file string) bool { _, err := os.Stat(file); return err == nil }

// dial opens the connection below MQTT.
func dial(t *testing.T, o client.Options) *client.Conn {
	t.Helper()
	var err error
	for attempt := range 20 {
		var c *client.Conn
		if c, err = client.Connect(t.Context(), o); err == nil {
			return c
		}
		time.Sleep(client.Backoff(attempt, rand.N[time.Duration]))
	}
	t.Fatal(err)
	return nil
}

// The programs' connections work with mosquitto in both versions.
func TestMosquitto(t *testing.T) {
	for _, version := range []byte{5, 4} {
		t.Run(fmt.Sprint(version), func(t *testing.T) { testMosquitto(t, version) })
	}
}

func testMosquitto(t *testing.T, version byte) {
	url, stop := mosquitto(t)
	heard := make(chan topics.Message, 10)
	next := func() string {
		t.Helper()
		select {
		case m := <-heard:
			return fmt.Sprintf("%s %s %v", m.Topic, m.Payload, m.Retain)
		case <-time.After(time.Minute):
			t.Fatal("nothing heard in a minute")
			return ""
		}
	}
	ear := dial(t, client.Options{URL: url, Password: "s3cret", Version: version, ClientID: "ear", OnMessage: func(m topics.Message) { heard <- m }})
	if _, err := client.Connect(t.Context(), client.Options{URL: url, Password: "wrong", Version: version, ClientID: "x"}); !errors.Is(err, client.ErrNotAuthorized) {
		t.Errorf("a wrong password: %v", err)
	} else if reason := ": not authorized (0x87): "; strings.Contains(err.Error(), reason) != (version == 5) {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := client.Connect(t.Context(), client.Options{URL: "mqtt://127.0.0.1:1", ClientID: "x"}); err == nil || errors.Is(err, client.ErrNotAuthorized) {
		t.Errorf("a port where nobody listens: %v", err)
	}
	will := topics.Message{Topic: "home/pi/availability", Payload: []byte("offline"), QoS: 1, Retain: true}
	pi := dial(t, client.Options{URL: url, Password: "s3cret", Version: version, ClientID: "pi", Will: &will})
	pi.Publish(topics.Message{Topic: will.Topic, Payload: []byte("online"), QoS: 1, Retain: true})
	if err := pi.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ear.Subscribe(t.Context(), "home/#"); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != "home/pi/availability online true" {
		t.Errorf("heard %s", got)
	}
	// the same client id again: the first connection ends, its will is sent
	again := dial(t, client.Options{URL: url, Password: "s3cret", Version: version, ClientID: "pi", Will: &will})
	<-pi.Done()
	if pi.Err() == nil {
		t.Error("the connection that was taken over ended without a reason")
	}
	if got := next(); got != "home/pi/availability offline false" {
		t.Errorf("heard %s", got)
	}
	var want, got []string
	for i := range 5 {
		m := topics.Message{Topic: "home/n", Payload: fmt.Append(nil, i), QoS: byte(i % 2)}
		again.Publish(m)
		want = append(want, fmt.Sprintf("home/n %d false", i))
	}
	again.Close() // clean: no will
	ear.Publish(topics.Message{Topic: "home/end", QoS: 1})
	for range want {
		got = append(got, next())
	}
	if !slices.Equal(got, want) || next() != "home/end  false" {
		t.Errorf("heard %q, want %q", got, want)
	}
	stop()
	<-ear.Done()
	if ear.Err() == nil {
		t.Error("the end of mosquitto was no reason")
	}
	ear.Close()
}

// What mosquitto refuses comes with its reason.
func TestReasonsOfMosquitto(t *testing.T) {
	url, _ := mosquitto(t)
	c := dial(t, client.Options{URL: url, Password: "s3cret", ClientID: "c"})
	if c.Version() != 5 {
		t.Errorf("version %d", c.Version())
	}
	refused := make(chan *client.Refusal, 1)
	c.PublishThen(topics.Message{Topic: "secret/a", QoS: 1}, func(r *client.Refusal) { refused <- r })
	select {
	case r := <-refused:
		if r == nil || r.Reason != "not authorized (0x87)" {
			t.Errorf("%+v", r)
		}
	case <-c.Done():
		t.Fatal(c.Err())
	}
	c.Close()
}

// A persistent session is resumed, in both versions, with what came meanwhile.
func TestPersistentSessionOfMosquitto(t *testing.T) {
	for _, version := range []byte{5, 4} {
		url, _ := mosquitto(t)
		received := make(chan string, 10)
		o := client.Options{URL: url, Password: "s3cret", ClientID: "p", Persistent: true, Version: version, OnMessage: func(m topics.Message) { received <- string(m.Payload) }}
		c := dial(t, o)
		if err := c.Subscribe(t.Context(), "home/#"); err != nil || c.Resumed() {
			t.Fatalf("%v, resumed %v", err, c.Resumed())
		}
		c.Close()
		other := dial(t, client.Options{URL: url, Password: "s3cret", ClientID: "o"})
		other.Publish(topics.Message{Topic: "home/a", Payload: []byte("1"), QoS: 1})
		other.Close()
		c = dial(t, o)
		select {
		case got := <-received:
			if got != "1" || !c.Resumed() {
				t.Errorf("%q, resumed %v", got, c.Resumed())
			}
		case <-c.Done():
			t.Fatal(c.Err())
		}
		c.Close()
	}
}
