package supervisor

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

func TestPorts(t *testing.T) {
	h := newHost(t)
	h.makefile("web", `exec sleep 100`)
	h.makefile("api", `exec sleep 100`)
	both := map[string]topics.Spec{"web": spec("r1"), "api": spec("r1")}
	h.apply(both)
	web, api := h.get("web").Port, h.get("api").Port
	if web == api || web == 0 || api == 0 {
		t.Fatalf("ports %d and %d", web, api)
	}
	h.apply(nil)
	h.until("both stopped", h.s.Idle)
	h.s.Close()
	h.open()
	h.apply(both)
	if got := h.get("web").Port; got != web {
		t.Errorf("the port changed from %d to %d over a restart", web, got)
	}
	h.apply(nil)
	h.until("both stopped", h.s.Idle)

	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", web))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h.apply(both)
	if got := h.get("web").Port; got == web || got == api || got == 0 {
		t.Errorf("the port is %d, want another one than the taken %d", got, web)
	}
	fixed := spec("r2")
	fixed.Port = web
	h.apply(one("web", fixed))
	i := h.untilState("web", topics.Failed)
	if !strings.Contains(i.Message, fmt.Sprintf("port %d is taken", web)) {
		t.Errorf("message %q", i.Message)
	}
	l.Close()
	if err := h.s.Restart("web", time.Now()); err != nil {
		t.Fatal(err)
	}
	if i := h.get("web"); i.Port != web {
		t.Errorf("%+v, want the fixed port", i)
	}
}

func TestPortFree(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", ":0", "127.0.0.2:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("cannot try %s: %v", address, err)
			continue
		}
		port := l.Addr().(*net.TCPAddr).Port
		if bindable(port) == nil {
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
		if bindable(port) != nil {
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
				if bindable(29999) != nil {
					t.Error("taken")
					return
				}
			}
		})
	}
	asking.Wait()
}
