package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/wire"
)

// TestPowerCuts takes the power away at random moments, and the end of the
// store with it, as far as that is younger than its last sync: what was
// acknowledged before is there, for who was away, who comes and goes, and who
// asks what is retained.
//
//	ENGINE_TEST_CUTS=n  how often; a few times otherwise
func TestPowerCuts(t *testing.T) {
	cuts := 60
	if n, err := strconv.Atoi(os.Getenv("ENGINE_TEST_CUTS")); err == nil {
		cuts = n
	}
	p := &poweredBroker{rnd: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3)), arrived: make(map[int]bool), certain: make(map[int]bool)}
	root := t.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "engine-"); err == nil {
		root = dir
		defer os.RemoveAll(root)
	}
	for life := range cuts + 1 {
		p.dir, p.next = filepath.Join(root, strconv.Itoa(life)), filepath.Join(root, strconv.Itoa(life+1))
		synctest.Test(t, func(t *testing.T) { p.live(t, life) })
		if t.Failed() {
			return
		}
		if err := os.RemoveAll(p.dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d power cuts took %d bytes; of %d acknowledged messages %d were too young to be certain", cuts, p.taken, p.acknowledged, p.doubtful)
	if p.doubtful < cuts/4 || p.taken == 0 {
		t.Error("this tries nothing")
	}
}

// poweredBroker is a broker that loses its power, and what it acknowledged.
type poweredBroker struct {
	rnd          *rand.Rand
	dir, next    string
	number       int
	kept         int          // the last one retained that is certain to be there
	certain      map[int]bool // numbers that no power cut may have taken
	arrived      map[int]bool // of them
	acknowledged int
	doubtful     int // of them, in the time before a cut
	taken        int64

	now    []acknowledged // of this life
	grown  []fileGrowth
	engine *engine.Engine
}

type acknowledged struct {
	number int
	kept   bool
}

// fileGrowth is how long the store's file was at a moment, and how much of this life
// had been acknowledged.
type fileGrowth struct {
	at           time.Time
	size         int64
	acknowledged int
}

const syncs = 100 * time.Millisecond

func (p *poweredBroker) file(dir string) string { return filepath.Join(dir, "00000001.log") }

func (p *poweredBroker) live(t *testing.T, life int) {
	disk, state, err := store.Open(p.dir, store.Options{Sync: syncs})
	if err != nil {
		t.Fatal(err)
	}
	p.engine, err = engine.New(engine.Options{Store: disk, State: state})
	if err != nil {
		t.Fatal(err)
	}
	p.now, p.grown = nil, nil
	away := connect(t, pipe(t, p.engine), "away", persistent)
	if life == 0 {
		away.subscribeAndWait(2, "queue/#")
		away.disconnect()
		time.Sleep(2 * syncs) // that this is on the disk is not what it is about
	} else {
		p.check(t, away)
		away.conn.Close()
	}
	pub := connect(t, pipe(t, p.engine), "pub", v5)
	for range 5 + p.rnd.IntN(60) {
		switch p.rnd.IntN(12) {
		case 0: // it comes for a while, and takes what there is or not
			away = connect(t, pipe(t, p.engine), "away", persistent)
			if p.rnd.IntN(2) == 0 {
				p.take(away)
			}
		case 1:
			away.conn.Close()
		case 2:
			pub = connect(t, pipe(t, p.engine), "pub", v5) // the one before is taken over
		default:
			p.publish(t, pub)
		}
		if p.rnd.IntN(2) == 0 {
			time.Sleep(time.Duration(p.rnd.IntN(60)) * time.Millisecond)
		}
		p.grows(t)
	}
	p.cut(t)
	closeEngine(t, p.engine)
	_ = disk.Close(context.Background())
}

func (p *poweredBroker) grows(t *testing.T) {
	now := time.Now()
	info, err := os.Stat(p.file(p.dir))
	if err != nil {
		t.Fatal(err)
	}
	p.grown = append(p.grown, fileGrowth{now, info.Size(), len(p.now)})
}

// publish sends the next number and waits for its acknowledgement.
func (p *poweredBroker) publish(t *testing.T, pub *client) {
	t.Helper()
	p.number++
	a := acknowledged{number: p.number, kept: p.rnd.IntN(3) == 0}
	qos, topic := byte(1+p.rnd.IntN(2)), "queue/"+strconv.Itoa(p.rnd.IntN(3))
	if a.kept {
		topic = "kept"
	}
	id := pub.publish(qos, topic, fmt.Sprint(p.number), a.kept)
	answer := pub.nextAsText()
	if qos == 2 && p.rnd.IntN(3) > 0 { // the message is the broker's from PUBREC on
		pub.ack(wire.Pubrel, id)
		pub.nextAsText()
	}
	if !strings.HasPrefix(answer, "PUBACK") && !strings.HasPrefix(answer, "PUBREC") || strings.Contains(answer, "code 9") {
		t.Fatalf("%d is answered by %q", p.number, answer)
	}
	p.now = append(p.now, a)
}

// cut ends a life: the next one has the file up to somewhere behind what was
// synced.
func (p *poweredBroker) cut(t *testing.T) {
	synctest.Wait()
	b, err := os.ReadFile(p.file(p.dir))
	if err != nil {
		t.Fatal(err)
	}
	at, certain := int64(len(b)), len(p.now) // nothing is cut off a life that was too short
	for _, g := range p.grown {
		if time.Since(g.at) > syncs {
			at, certain = g.size, g.acknowledged
		}
	}
	at += p.rnd.Int64N(int64(len(b)) - at + 1)
	p.taken += int64(len(b)) - at
	p.acknowledged += len(p.now)
	p.doubtful += len(p.now) - certain
	for _, a := range p.now[:certain] {
		if a.kept {
			p.kept = a.number
		} else {
			p.certain[a.number] = true
		}
	}
	if err := errors.Join(os.MkdirAll(p.next, 0o700), os.WriteFile(p.file(p.next), b[:at], 0o600)); err != nil {
		t.Fatal(err)
	}
}

// take takes what waits for a client, with each acknowledgement that belongs
// to it.
func (p *poweredBroker) take(c *client) {
	for {
		first, body, err := c.frame(time.Millisecond)
		if err != nil {
			return
		}
		switch kind := first >> 4; kind {
		case wire.PublishType:
			var m wire.Publish
			if m.Decode(first, body, c.version) != nil {
				return
			}
			n, _ := strconv.Atoi(string(m.Payload))
			p.arrived[n] = true
			c.ack(map[byte]byte{1: wire.Puback, 2: wire.Pubrec}[m.QoS], m.PacketID)
		case wire.Pubrel:
			a, _ := wire.DecodeAck(kind, body, c.version)
			c.ack(wire.Pubcomp, a.PacketID)
		}
	}
}

// check looks for what was acknowledged in the lives before.
func (p *poweredBroker) check(t *testing.T, away *client) {
	t.Helper()
	p.take(away)
	for n := range p.certain {
		if !p.arrived[n] {
			t.Errorf("%d was acknowledged and on the disk, and is missing", n)
		}
	}
	if p.kept == 0 {
		return
	}
	late := connect(t, pipe(t, p.engine), "late")
	late.subscribeAndWait(0, "kept")
	n := 0
	if words := strings.Fields(late.nextAsText()); len(words) > 1 {
		n, _ = strconv.Atoi(words[1])
	}
	if n < p.kept {
		t.Errorf("%d is retained, %d was acknowledged and on the disk", n, p.kept)
	}
	late.conn.Close()
}
