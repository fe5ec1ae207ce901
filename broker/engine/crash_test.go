package engine_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

const (
	serverDir    = "ENGINE_TEST_SERVER_DIR"   // makes the test binary a server that keeps what it has there
	crashRounds  = "ENGINE_TEST_CRASH_ROUNDS" // how often it is killed
	crashDefault = 6
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverDir); dir != "" {
		if err := runServer(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runServer(dir string) error {
	kept, state, err := store.Open(dir, store.Options{Sync: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	e, err := engine.New(engine.Options{Store: kept, State: state})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		e.Serve(c, "mqtt")
	}
}

func startServer(t *testing.T, dir string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	return strings.TrimSpace(line), func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
}

// pendingPublish is one that is not wholly acknowledged.
type pendingPublish struct {
	id       uint16
	qos      byte
	n        int
	released bool
}

// numberPublisher publishes numbers, QoS 1 and 2 in turn, over as many connections as
// it takes.
type numberPublisher struct {
	next  int
	id    uint16
	open  []pendingPublish
	acked map[int]bool // that the server has, by number
}

func (p *numberPublisher) run(c *client, until func() bool) error {
	for _, o := range p.open {
		if err := p.say(c, o, wire.FlagDup); err != nil {
			return err
		}
	}
	for !until() || len(p.open) > 0 {
		for !until() && len(p.open) < 20 {
			p.id = p.id%60000 + 1
			o := pendingPublish{id: p.id, qos: byte(1 + p.next%2), n: p.next}
			p.next++
			p.open = append(p.open, o)
			if err := p.say(c, o, 0); err != nil {
				return err
			}
		}
		if len(p.open) == 0 {
			continue
		}
		first, body, err := c.frame(10 * time.Second)
		if err != nil {
			return err
		}
		id := uint16(body[0])<<8 | uint16(body[1])
		for i := range p.open {
			o := &p.open[i]
			if o.id != id {
				continue
			}
			switch first >> 4 {
			case wire.Puback, wire.Pubcomp:
				p.acked[o.n] = true
				p.open = append(p.open[:i:i], p.open[i+1:]...)
			case wire.Pubrec:
				p.acked[o.n] = true
				o.released = true
				if err := p.say(c, *o, 0); err != nil {
					return err
				}
			}
			break
		}
	}
	return nil
}

func (p *numberPublisher) say(c *client, o pendingPublish, dup byte) error {
	if o.released {
		_, err := c.conn.Write(wire.AppendAck(nil, wire.Pubrel, wire.Ack{PacketID: o.id}, c.version))
		return err
	}
	payload := strconv.Itoa(o.n)
	out := wire.Outgoing{Flags: o.qos<<1 | dup, PacketID: o.id, Topic: "crash", Payload: len(payload)}
	_, err := c.conn.Write(append(out.Append(nil, c.version), payload...))
	return err
}

// numberReceiver takes what the publisher sends, and remembers what a client would.
type numberReceiver struct {
	mu   sync.Mutex
	got  [3][]int // by QoS; QoS 1 may come twice
	held map[uint16]bool
}

func (l *numberReceiver) run(c *client) error {
	for {
		first, body, err := c.frame(10 * time.Second)
		if err != nil {
			return err
		}
		var answer []byte
		switch first >> 4 {
		case wire.PublishType:
			var p wire.Publish
			if err := p.Decode(first, body, c.version); err != nil {
				return err
			}
			n, _ := strconv.Atoi(string(p.Payload))
			l.mu.Lock()
			if p.QoS == 1 || !l.held[p.PacketID] {
				l.got[p.QoS] = append(l.got[p.QoS], n)
			}
			l.mu.Unlock()
			kind := wire.Puback
			if p.QoS == 2 {
				l.held[p.PacketID] = true
				kind = wire.Pubrec
			}
			answer = wire.AppendAck(nil, kind, wire.Ack{PacketID: p.PacketID}, c.version)
		case wire.Pubrel:
			id := uint16(body[0])<<8 | uint16(body[1])
			delete(l.held, id)
			answer = wire.AppendAck(nil, wire.Pubcomp, wire.Ack{PacketID: id}, c.version)
		}
		if _, err := c.conn.Write(answer); err != nil {
			return err
		}
	}
}

// The server is killed at any moment under load: what it acknowledged is not
// missing, nothing is out of order, and no QoS 2 comes twice.
func TestKilledUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: -short")
	}
	rounds := crashDefault
	if n, err := strconv.Atoi(os.Getenv(crashRounds)); err == nil {
		rounds = n
	}
	dir := t.TempDir()
	tell, listen := &numberPublisher{acked: map[int]bool{}}, &numberReceiver{held: map[uint16]bool{}}
	for round := range rounds + 1 {
		addr, kill := startServer(t, dir)
		dial := func(id string) *client {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			c := handshake(t, conn, id, persistent)
			if got, want := c.nextAsText(), fmt.Sprintf("CONNACK 0 present %v", round > 0); got != want {
				t.Fatalf("round %d: got %q, want %q", round, got, want)
			}
			return c
		}
		sub := dial("sub")
		if round == 0 {
			sub.subscribeAndWait(2, "crash")
			dial("pub").conn.Close()
		}
		stop := make(chan struct{})
		if round < rounds {
			time.AfterFunc(time.Duration(20+rand.IntN(100))*time.Millisecond, func() { close(stop); kill() })
		} else {
			close(stop)
		}
		until := func() bool {
			select {
			case <-stop:
				return true
			default:
				return false
			}
		}
		var both sync.WaitGroup
		both.Go(func() { _ = listen.run(sub) })
		pub := func() *client {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				return nil
			}
			return handshake(t, conn, "pub", persistent)
		}()
		if pub != nil {
			if _, _, err := pub.frame(time.Minute); err == nil {
				if err := tell.run(pub, until); err != nil && !errors.Is(err, io.EOF) && round == rounds {
					t.Error(err)
				}
			}
			pub.conn.Close()
		}
		if round == rounds {
			// what is left comes now; the last are all acknowledged
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && !listen.has(tell.next); {
				time.Sleep(10 * time.Millisecond)
			}
			kill()
		}
		both.Wait()
		sub.conn.Close()
	}
	checkReceived(t, tell, listen)
	t.Logf("%d messages over %d kills", tell.next, rounds)
}

func (l *numberReceiver) has(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := func(q []int) int {
		if len(q) == 0 {
			return -1
		}
		return q[len(q)-1]
	}
	return max(last(l.got[1]), last(l.got[2])) == n-1 && min(last(l.got[1]), last(l.got[2])) >= n-2
}

func checkReceived(t *testing.T, tell *numberPublisher, listen *numberReceiver) {
	t.Helper()
	all := map[int]bool{}
	for qos, got := range listen.got {
		highest := -1
		for _, n := range got {
			switch {
			case all[n] && qos == 2:
				t.Errorf("QoS 2 message %d came twice", n)
			case !all[n] && n < highest:
				t.Errorf("QoS %d message %d came first after %d", qos, n, highest)
			}
			all[n] = true
			highest = max(highest, n)
		}
	}
	for n := range tell.acked {
		if !all[n] {
			t.Errorf("message %d was acknowledged and never came", n)
		}
	}
}
