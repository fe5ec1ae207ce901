package broker_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// The configured limits are those of the engine: each kind by what comes of it.
func TestLimitsPassThrough(t *testing.T) {
	limited := func(name string, l broker.Limits, test func(t *testing.T, b *broker.Broker)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, start(t, broker.Config{Limits: l})) })
		})
	}
	closed := func(t *testing.T, c *client.Conn) {
		t.Helper()
		select {
		case <-c.Done():
		case <-time.After(time.Minute):
			t.Error("the client was not closed")
			c.Close()
		}
	}
	limited("connections", broker.Limits{MaxConnections: 1}, func(t *testing.T, b *broker.Broker) {
		c := pipe(t, b, client.Options{ClientID: "first"})
		ours, theirs := net.Pipe()
		b.Serve(theirs)
		if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a second connection: %v", err)
		}
		c.Close()
	})
	limited("connect timeout", broker.Limits{ConnectTimeout: 3 * time.Second}, func(t *testing.T, b *broker.Broker) {
		ours, theirs := net.Pipe()
		began := time.Now()
		b.Serve(theirs)
		if _, err := ours.Read(make([]byte, 1)); err == nil || time.Since(began) != 3*time.Second {
			t.Errorf("closed after %v, %v", time.Since(began), err)
		}
	})
	limited("packet", broker.Limits{MaxPacket: 1000}, func(t *testing.T, b *broker.Broker) {
		c := pipe(t, b, client.Options{ClientID: "c", Version: 4}) // in 5 the client does not send it
		c.Publish(topics.Message{Topic: "a", Payload: make([]byte, 2000)})
		closed(t, c)
	})
	limited("topic levels", broker.Limits{MaxTopicLevels: 2}, func(t *testing.T, b *broker.Broker) {
		c := pipe(t, b, client.Options{ClientID: "c"})
		if err := c.Subscribe(t.Context(), "a/b", "a/b/c"); err == nil || !strings.Contains(err.Error(), "a/b/c") {
			t.Errorf("a filter of three levels: %v", err)
		}
		c.Close()
	})
	limited("rate", broker.Limits{MessagesPerSecond: 10}, func(t *testing.T, b *broker.Broker) {
		c := pipe(t, b, client.Options{ClientID: "c"})
		began := time.Now()
		for range 100 {
			c.Publish(topics.Message{Topic: "a", QoS: 1})
		}
		if err := c.Flush(t.Context()); err != nil || time.Since(began) < 9*time.Second {
			t.Errorf("100 messages at 10 a second took %v, %v", time.Since(began), err)
		}
		c.Close()
	})
	limited("retained", broker.Limits{MaxRetained: 100}, func(t *testing.T, b *broker.Broker) {
		c := pipe(t, b, client.Options{ClientID: "c"})
		for i := range 200 {
			c.Publish(retained(fmt.Sprint(i), "x"))
		}
		_ = c.Flush(t.Context())
		synctest.Wait()
		n := 0
		for _, filter := range []string{"+", "$SYS/#"} { // the broker's own count too
			if err := b.Subscribe(filter, func(topics.Message) { n++ }); err != nil {
				t.Fatal(err)
			}
		}
		if n != 100 {
			t.Errorf("%d messages are retained, want 100", n)
		}
		c.Close()
	})
}

// What is excluded is handed on and retained, and never written.
func TestExcludedTopicsAreNotPersisted(t *testing.T) {
	cfg := broker.Config{DataDir: t.TempDir(), Exclude: []string{"camera/#", "+/raw"}}
	synctest.Test(t, func(t *testing.T) {
		b := start(t, cfg)
		for _, topic := range []string{"camera/door", "lamp/raw", "lamp/state", "dominion/domain/pi/heartbeat", "$SYS/x"} {
			b.Publish(retained(topic, "kept-or-not "+topic))
		}
		var got inbox
		if err := b.Subscribe("camera/#", got.put); err != nil {
			t.Fatal(err)
		}
		got.expect(t, "camera/door kept-or-not camera/door retained")
		stop(t, b)
	})
	if n := strings.Count(fileContents(t, cfg.DataDir), "kept-or-not"); n != 1 {
		t.Errorf("%d messages were written, want that of lamp/state alone", n)
	}
	synctest.Test(t, func(t *testing.T) {
		b := start(t, cfg)
		var got inbox
		if err := b.Subscribe("+/#", got.put); err != nil {
			t.Fatal(err)
		}
		got.expect(t, "lamp/state kept-or-not lamp/state retained")
		stop(t, b)
	})
}

// fileContents returns all that the broker has in its files.
func fileContents(t *testing.T, dataDir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dataDir, "broker", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	var all strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(content)
	}
	return all.String()
}
