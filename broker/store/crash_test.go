package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// smallLog writes a batch for each group of records and gives the file, the
// state after each batch, and where in the file each ended.
func smallLog(t *testing.T) (content []byte, states []State, ends []int64) {
	t.Helper()
	dir := t.TempDir()
	s, _, _ := open(t, dir, Options{Sync: time.Hour})
	m := NewModel()
	states, ends = append(states, m.State()), append(ends, int64(len(segmentHeader)))
	all := allRecords()
	batches := [][]Record{all[:1], all[1:4], all[4:6], all[6:10], {Dequeue{"pi", 3}, Released{"pi", 9}}, {Retain{Topic: "home/kitchen/light"}}, {SessionGone{"empty"}, all[0]}}
	for i, batch := range batches {
		if i == 5 {
			batch = append(batch, Session{Client: "empty"})
		}
		for _, r := range batch {
			m.Apply(r)
		}
		if err := write(t, s, batch...); err != nil {
			t.Fatal(err)
		}
		states, ends = append(states, m.State()), append(ends, s.tail.size)
	}
	closeStore(t, s)
	content, err := os.ReadFile(filepath.Join(dir, segmentName(1)))
	if err != nil || int64(len(content)) != ends[len(ends)-1] {
		t.Fatal(len(content), ends, err)
	}
	return content, states, ends
}

// checkRecovery opens a log of one file, asks for a state, and for the next two
// lives: what is appended now is there, and nothing is said any more.
func checkRecovery(t *testing.T, content []byte, want State, warned bool) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, segmentName(1)), content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, state, l := open(t, dir, Options{Sync: time.Hour})
	compareStates(t, state, want)
	if got := strings.Contains(l.String(), "level=WARN"); got != warned {
		t.Errorf("warned %v: %s", got, l)
	}
	if err := write(t, s, Session{Client: "~later"}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	_, state, l = open(t, dir, Options{})
	if n := len(state.Sessions); n == 0 || state.Sessions[n-1].Client != "~later" || l.String() != "" {
		t.Errorf("what came after the cut is not there: %d sessions, logged %s", n, l)
	}
}

func TestTornAtEveryByte(t *testing.T) {
	content, states, ends := smallLog(t)
	for size := range len(content) + 1 {
		whole := 0
		for i, end := range ends {
			if int64(size) >= end {
				whole = i
			}
		}
		checkRecovery(t, content[:size], states[whole], size != 0 && int64(size) != ends[whole])
		if t.Failed() {
			t.Fatalf("cut to %d bytes", size)
		}
	}
}

func TestFlippedBytes(t *testing.T) {
	content, states, ends := smallLog(t)
	for at := range content {
		broken := slices.Clone(content)
		broken[at] ^= 1 << (at % 8)
		want, warned := states[len(states)-1], false
		if i := slices.IndexFunc(ends, func(end int64) bool { return int64(at) < end }); i > 0 {
			want, warned = states[i-1], true
		}
		checkRecovery(t, broken, want, warned)
		if t.Failed() {
			t.Fatalf("flipped at %d", at)
		}
	}
}

func TestTailOfZerosAndNoise(t *testing.T) {
	content, states, _ := smallLog(t)
	last := states[len(states)-1]
	// What file systems leave where a power cut came before the data.
	checkRecovery(t, append(slices.Clone(content), make([]byte, 5000)...), last, true)
	noise := make([]byte, 5000)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	checkRecovery(t, append(slices.Clone(content), noise...), last, true)
}

// TestCorruptInTheMiddle keeps the files after the one that is broken.
func TestCorruptInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := open(t, dir, Options{Sync: time.Hour, segment: 2048})
	for i := range 100 {
		topic := fmt.Sprintf("%03d", i)
		if err := write(t, s, Retain{topic, &Message{Topic: topic, Payload: make([]byte, 100)}}); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	path := filepath.Join(dir, segmentName(2))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, state, l := open(t, dir, Options{})
	if n := len(state.Retained); n < 85 || n > 95 || byTopic(state).Retained[n-1].Topic != "099" {
		t.Errorf("%d of 100 are left", n)
	}
	if !strings.Contains(l.String(), path) {
		t.Errorf("not said: %s", l)
	}
}

// TestWriteFails takes the file away: what could not be written is kept, in
// order, and the log says so once.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	s, _, l := open(t, dir, Options{Sync: time.Hour})
	m := NewModel()
	if err := write(t, s, Session{Client: "c"}); err != nil {
		t.Fatal(err)
	}
	good, broken := s.tail.file, mustOpen(t, filepath.Join(dir, segmentName(1)))
	broken.Close()
	s.tail.file = broken // run waits for Append
	for _, batch := range [][]Record{
		{Enqueue{Client: "c", Seq: 1, Message: &Message{Topic: "a"}}}, // found out by write
		{Sent{"c", 1, 7, Published}},
		{Received{"c", 1}}, // refused
		{Dequeue{"c", 1}},
		{Sent{"c", 1, 8, Published}}, // says nothing: the queue is empty
	} {
		if err := write(t, s, batch...); err == nil && batch[0] != (Sent{"c", 1, 8, Published}) || errors.Is(err, ErrFull) {
			t.Errorf("%+v: %v", batch, err)
		}
	}
	if got := strings.Count(l.String(), "\n"); got != 1 {
		t.Errorf("logged %s", l)
	}
	s.tail.file = good
	if err := write(t, s, Received{"c", 2}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	_, state, _ := open(t, dir, Options{})
	for _, r := range []Record{Session{Client: "c"}, Received{"c", 2}} {
		m.Apply(r)
	}
	compareStates(t, state, m.State())
}

func mustOpen(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// FuzzReplay: whatever is in a file, Open does not panic.
func FuzzReplay(f *testing.F) {
	f.Add([]byte(segmentHeader))
	f.Add(frame([]byte(segmentHeader), []byte{version, byte(itemRetain), 1, 1, 'a', 9}))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := newIndex(nil)
		_ = items(b, x.load)
		x.finishLoading()
		x = newIndex(nil)
		if items(append([]byte{version}, b...), x.load) == nil {
			x.finishLoading()
		}
	})
}

// What the killed child does: for each of some clients it goes through numbers;
// number n is retained, queued, and a QoS 2 packet id, in one batch, and takes n-keep
// out of the queue in another. It says what done said.
const (
	killClients = 6
	killKeep    = 40
)

func TestKilledChild(t *testing.T) {
	if dir := os.Getenv("STORE_CHILD"); dir != "" {
		child(dir)
	}
	rounds := 10
	if n, err := strconv.Atoi(os.Getenv("STORE_KILLS")); err == nil {
		rounds = n
	}
	dir, rnd := t.TempDir(), rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	acked, dropped := make([]uint64, killClients), make([]uint64, killClients)
	var total int
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
		cmd.Env = append(os.Environ(), "STORE_CHILD="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		life := time.Duration(rnd.IntN(80)) * time.Millisecond
		var once sync.Once
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var what string
			var client int
			var n uint64
			if _, err := fmt.Sscan(lines.Text(), &what, &client, &n); err != nil {
				break // cut by the kill
			}
			once.Do(func() { time.AfterFunc(life, func() { _ = cmd.Process.Kill() }) })
			total++
			if what == "kept" {
				acked[client] = n
			} else {
				dropped[client] = n
			}
		}
		_ = cmd.Wait()
		s, state, l := open(t, dir, Options{Sync: time.Hour})
		sessions := map[string]SessionState{}
		for _, c := range state.Sessions {
			sessions[c.Client] = c
		}
		retained := map[string]uint64{}
		for _, m := range state.Retained {
			retained[m.Topic], _ = strconv.ParseUint(string(m.Payload), 10, 64)
		}
		for i := range killClients {
			c := sessions[fmt.Sprint("client-", i)]
			if len(c.Queue) == 0 {
				if acked[i] > 0 {
					t.Fatalf("round %d: client %d has no queue; %s", round, i, l)
				}
				continue // killed before its first word
			}
			first, last := c.Queue[0].Seq, c.Queue[len(c.Queue)-1].Seq
			if last < acked[i] || first <= dropped[i] || first > max(last, killKeep)-killKeep+1 {
				t.Errorf("round %d: client %d has %d to %d; %d was acknowledged and %d dropped", round, i, first, last, acked[i], dropped[i])
			}
			for j, q := range c.Queue {
				if q.Seq != first+uint64(j) || string(q.Message.Payload) != fmt.Sprint(q.Seq) {
					t.Fatalf("round %d: client %d has number %d with %s at %d", round, i, q.Seq, q.Message.Payload, first+uint64(j))
				}
			}
			if got := retained[c.Client]; got != last {
				t.Errorf("round %d: client %d retains %d, its queue ends with %d: half a batch", round, i, got, last)
			}
			if want := []uint16{uint16(last)}; !slices.Equal(c.Received, want) {
				t.Errorf("round %d: client %d: packet ids %d, want %d", round, i, c.Received, want)
			}
		}
		closeStore(t, s)
	}
	t.Logf("%d rounds, %d acknowledgements", rounds, total)
	numbers, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	if numbers[0] > 1 {
		return
	}
	// A slow disk syncs less often than the child is killed, and nothing is
	// dropped without: what was left behind can be compacted all the same.
	s, _, _ := open(t, dir, Options{segment: 16 << 10}) // each write is synced
	for n := range 2000 {
		if err := write(t, s, Retain{"more", &Message{Topic: "more", Payload: make([]byte, 1000+n%2)}}); err != nil {
			t.Fatal(err)
		}
	}
	if numbers, _ := segments(dir); numbers[0] == 1 {
		t.Error("nothing is compacted")
	}
}

func child(dir string) {
	s, state, err := Open(dir, Options{Sync: 5 * time.Millisecond, segment: 16 << 10})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	next := make([]uint64, killClients)
	for i := range next {
		next[i] = 1
	}
	for _, c := range state.Sessions {
		i, _ := strconv.Atoi(strings.TrimPrefix(c.Client, "client-"))
		next[i] = c.Queue[len(c.Queue)-1].Seq + 1
	}
	for i := range killClients {
		id := fmt.Sprint("client-", i)
		n := next[i]
		var put func(error)
		put = func(err error) {
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			at := n
			m := &Message{Topic: id, Payload: fmt.Append(nil, at)}
			batch := []Record{Retain{id, m}, Enqueue{Client: id, Seq: at, Message: m}, Released{id, uint16(at - 1)}, Received{id, uint16(at)}}
			if at == 1 {
				batch = append([]Record{Session{Client: id}}, batch...)
			}
			n++
			s.Append(batch, func(err error) {
				if err == nil {
					fmt.Printf("kept %d %d\n", i, at)
				}
				put(err)
			})
			if at > killKeep {
				s.Append([]Record{Sent{id, at - killKeep, 1, Published}, Dequeue{id, at - killKeep}}, func(err error) {
					if err == nil {
						fmt.Printf("dropped %d %d\n", i, at-killKeep)
					}
				})
			}
		}
		s.Append(nil, put) // all in the goroutine of the dones
	}
	<-context.Background().Done() // until it is killed
}
