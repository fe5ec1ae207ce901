package engine_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
)

// serve serves an engine over TCP until the test ends.
func serve(t testing.TB, o engine.Options) (e *engine.Engine, addr string) {
	t.Helper()
	if testing.Verbose() && os.Getenv("ENGINE_LOG") != "" {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	e, err := engine.New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.Serve(c, "mqtt")
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-accepting
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e, l.Addr().String()
}

// The clients that everybody has get through.
func TestMosquittoClients(t *testing.T) {
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		t.Skip("skipped: mosquitto_pub is not installed")
	}
	_, addr := serve(t, engine.Options{})
	_, port, _ := net.SplitHostPort(addr)
	for _, version := range []string{"31", "311", "5"} {
		for _, qos := range []string{"0", "1", "2"} {
			topic := "a/" + version + "/" + qos
			pub := exec.Command("mosquitto_pub", "-p", port, "-V", version, "-q", qos, "-t", topic, "-m", "hello "+topic, "-r")
			if out, err := pub.CombinedOutput(); err != nil {
				t.Fatalf("mosquitto_pub: %v: %s", err, out)
			}
			sub := exec.Command("mosquitto_sub", "-p", port, "-V", version, "-q", qos, "-t", "+/"+version+"/"+qos, "-C", "1", "-W", "5")
			out, err := sub.CombinedOutput()
			if err != nil || string(out) != "hello "+topic+"\n" {
				t.Errorf("mosquitto_sub: %v: %q", err, out)
			}
		}
	}
}

// A connection that is accepted at the moment of the shutdown does not delay it until
// its client would have had to send CONNECT.
func TestCloseDoesNotWaitForNewConnections(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			e, err := engine.New(engine.Options{})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			client := pipe(t, e)
			defer client.Close()
			closeEngine(t, e)
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("Close took %v", d)
			}
		})
	}
}
