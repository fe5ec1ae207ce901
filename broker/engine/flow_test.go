package engine

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/broker/store"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// The QoS 1 and 2 state of a session, as transcripts: what happens after ">",
// what comes of it below.
func TestFlowTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/flow/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(string(content))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(content) {
				t.Errorf("got:\n%s\nwant:\n%s", got, content)
			}
		})
	}
}

// scriptedSession sends what a session would.
type scriptedSession struct {
	flow
	seq uint64
	out strings.Builder
}

func (p *scriptedSession) say(format string, args ...any) {
	fmt.Fprintf(&p.out, "  "+format+"\n", args...)
}

func (p *scriptedSession) send(d *delivery) {
	if d.phase == store.Releasing {
		p.say("PUBREL %d", d.id)
		return
	}
	dup := ""
	if d.sent {
		dup = " DUP"
	}
	d.sent = true
	p.say("PUBLISH %s qos %d id %d%s", d.msg.Topic, d.qos, d.id, dup)
}

func (p *scriptedSession) pump() {
	for d := p.nextResend(); d != nil; d = p.nextResend() {
		p.send(d)
	}
	for d := p.nextQueued(); d != nil; d = p.nextQueued() {
		p.send(p.startFlight(p.queue.pop()))
	}
}

func runScript(script string) string {
	var p scriptedSession
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		p.out.WriteString(line + "\n")
		command, ok := strings.CutPrefix(line, "> ")
		if !ok {
			continue
		}
		p.do(command)
	}
	return p.out.String()
}

func (p *scriptedSession) do(command string) {
	var name string
	var n, code int
	_, _ = fmt.Sscan(command, &name, &n, &code)
	id := uint16(n)
	switch name {
	case "connect":
		p.resume(n)
		for i := range p.flights.len() {
			if d := p.flights.at(i); d.phase == store.Releasing {
				p.send(d)
			}
		}
	case "qos1", "qos2", "unstored":
		p.seq++
		m := &message{}
		m.Topic = fmt.Sprintf("m%d", p.seq)
		d := delivery{msg: m, seq: p.seq, qos: 1, stored: name != "unstored"}
		if name == "qos2" {
			d.qos = 2
		}
		p.queue.push(d)
	case "stored":
		if d, _ := p.bySeq(uint64(n)); d != nil {
			d.stored = true
		}
	case "forget":
		d, ok := p.remove(uint64(n))
		p.say("forgot %v %v", d.seq, ok)
	case "ids":
		p.lastID, p.freeIDs = id, 0
	case "PUBACK":
		if _, ok := p.onPuback(id); !ok {
			p.say("nothing")
		}
	case "PUBREC":
		d, what := p.onPubrec(id, byte(code))
		switch what {
		case pubrecUnknown:
			p.say("PUBREL %d not found", id)
		case pubrecRefused:
			p.say("refused %s", d.msg.Topic)
		case pubrecRelease:
			p.send(d)
		}
	case "PUBCOMP":
		if _, ok := p.onPubcomp(id); !ok {
			p.say("nothing")
		}
	case "PUBLISH":
		p.say("new %v", p.receive(id))
	case "PUBREL":
		p.say("known %v", p.release(id))
	}
	p.pump()
	p.say("%d of %d in flight, %d queued", p.windowUsed, p.window, p.queue.len())
}

// Whatever a client says, the numbers agree, no packet identifier is used
// twice at a time, and QoS 2 is sent anew only where it was not released.
func FuzzFlow(f *testing.F) {
	f.Add(uint64(1), 3)
	f.Add(uint64(2), 1)
	f.Fuzz(func(t *testing.T, seed uint64, window int) {
		r := rand.New(rand.NewPCG(seed, 1))
		var p scriptedSession
		p.lastID = uint16(r.Uint32())
		p.resume(max(1, window&15))
		released := map[uint64]bool{}
		for range 400 {
			id := p.lastID - uint16(r.IntN(6))
			switch r.IntN(8) {
			case 0:
				p.do("qos1")
			case 1:
				p.do("qos2")
			case 2:
				p.do(fmt.Sprint("PUBACK ", id))
			case 3:
				if d, what := p.onPubrec(id, 0); what == pubrecRelease {
					released[d.seq] = true
				}
			case 4:
				p.do(fmt.Sprint("PUBCOMP ", id))
			case 5:
				p.do(fmt.Sprint("PUBREC ", id, " 128"))
			case 6:
				p.do(fmt.Sprint("connect ", 1+r.IntN(8)))
			case 7:
				p.do(fmt.Sprint("forget ", p.seq-min(p.seq, uint64(r.IntN(4)))))
			}
			p.pump()
			open, again := 0, 0
			ids := map[uint16]bool{}
			for i := range p.flights.len() {
				d := p.flights.at(i)
				if d.id == 0 || ids[d.id] {
					t.Fatalf("packet identifier %d twice", d.id)
				}
				ids[d.id] = true
				if d.inWindow {
					open++
				} else if d.phase == store.Published {
					again++
				}
				if released[d.seq] != (d.phase == store.Releasing) {
					t.Fatalf("message %d is in phase %d", d.seq, d.phase)
				}
			}
			if open != p.windowUsed || again != p.toResend || open > 15 {
				t.Fatalf("%d open and %d to be sent again, counted %d and %d", open, again, p.windowUsed, p.toResend)
			}
			if p.queue.len() > 0 && p.windowUsed < p.window && p.toResend == 0 {
				t.Fatal("something is queued that may go")
			}
		}
	})
}
