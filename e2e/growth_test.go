package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// TestBenchGrowth measures a hub with ten, a hundred and a thousand domains of
// ten services each, over TCP, and prints one table: what grows, and how. As
// TestBench it judges no figure; it fails where something was restarted or
// moved that should not be.
//
//	DOMINION_BENCH_DOMAINS=10,100  these, 10,100,1000 otherwise
//	DOMINION_BENCH_KEYS=0          domains without keys, as agents of before there were keys
//	DOMINION_BENCH_REST=2m         how long the hub is looked at at rest, 30s otherwise
func TestBenchGrowth(t *testing.T) {
	if os.Getenv("DOMINION_BENCH") != "1" {
		t.Skip("set DOMINION_BENCH=1 to measure")
	}
	needs(t)
	rest := 30 * time.Second
	if v := os.Getenv("DOMINION_BENCH_REST"); v != "" {
		var err error
		if rest, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	sizes := []int{10, 100, 1000}
	if v := os.Getenv("DOMINION_BENCH_DOMAINS"); v != "" {
		sizes = nil
		for s := range strings.SplitSeq(v, ",") {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, n)
		}
	}
	var heads []string
	var columns [][]figure
	for _, n := range sizes {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			w := newTown(t, n)
			w.measure(t, rest)
			heads, columns = append(heads, fmt.Sprintf("%d domains", n)), append(columns, w.figures)
		})
	}
	if len(columns) == 0 {
		return
	}
	table := new(strings.Builder)
	w := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "what\t%s\n", strings.Join(heads, "\t"))
	for i := range columns[0] {
		fmt.Fprint(w, columns[0][i].what)
		for _, c := range columns {
			if i < len(c) {
				fmt.Fprintf(w, "\t%s", c[i].measured)
			}
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Printf("\n%s\n", table)
}

// figure is one cell of the table.
type figure struct{ what, measured string }

// thisHost is the machine of the test itself, without a cable: hub and crowd
// meet on its loopback.
func thisHost(t *testing.T) *Host {
	// not /proc/self: that is the process's first thread, which Host.in may have
	// left in the network of a host
	network, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Close() })
	return &Host{Name: "hub", Dir: t.TempDir(), t: t, network: network}
}

// town is a hub with its crowd.
type town struct {
	*crowd
	host    *Host
	hub     *Process
	figures []figure
}

func (w *town) note(what, format string, a ...any) {
	w.t.Helper()
	f := figure{what, fmt.Sprintf(format, a...)}
	w.t.Log(f.what+":", f.measured) // at once: what comes after it may fail
	w.figures = append(w.figures, f)
}

func (w *town) start() {
	w.hub = w.host.Start(programs.dominion, "-config", filepath.Join(w.host.Dir, "dominion.toml"))
}

// cpu is what the hub has used of the processor.
func (w *town) cpu() time.Duration {
	w.t.Helper()
	return cpuOf(w.t, w.hub)
}

func (w *town) io(t *testing.T, name string) int64 { return field(t, w.hub.PID(), "io", name) }

// newTown writes what a hub of so many domains needs; nobody is there yet.
func newTown(t *testing.T, domains int) *town {
	host := thisHost(t)
	port := freePort(t)
	address := net.JoinHostPort("127.0.0.1", port)
	if err := writeFile(filepath.Join(host.Dir, "dominion.toml"), fmt.Sprintf("name = \"home\"\ndata_dir = %q\n[broker]\nlisten = %q\n[zeroconf]\nenabled = false\n%s",
		filepath.Join(host.Dir, "data"), address, crowdConfig(domains))); err != nil {
		t.Fatal(err)
	}
	w := &town{crowd: newCrowd(t, address, domains), host: host}
	if os.Getenv("DOMINION_BENCH_KEYS") == "0" {
		knowCrowd(t, w.crowd, filepath.Join(host.Dir, "data"))
	} else {
		adoptCrowd(t, w.crowd, filepath.Join(host.Dir, "data"))
	}
	return w
}

func (w *town) measure(t *testing.T, rest time.Duration) {
	ctx, stop := context.WithCancel(context.Background())
	defer w.running.Wait()
	defer stop()
	w.watch(ctx)

	w.start()
	w.sees(30*time.Second, 0, "the hub is there", func(h topics.Hub) bool { return h.Ready })
	mark, began, cpu, own := w.crowd.hub.len(), time.Now(), w.cpu(), ownCPU(t)
	w.come(ctx)
	s := w.settled(5*time.Minute, mark)
	w.note("all join for the first time → all runs", "%s", ms(s.At.Sub(began)))
	w.note("  CPU of the hub, of the load", "%s, %s", ms(w.cpu()-cpu), ms(ownCPU(t)-own))
	w.note("  start commands, hub/status, answers heard", "%d, %d, %d", w.orders.Load(), w.crowd.hub.len()-mark, w.answers.Load())
	w.quiet(t)
	w.note("  discovery messages, bytes", "%d, %s", w.discovery.Load(), mb(w.discoveryBytes.Load()))

	w.rest(t, rest)
	w.losses(t)
	w.switches(t)
	w.restarts(t)
	w.rested(t)
}

// quiet waits until what follows from the last change has been said, and is on
// the disk: nothing tells of the end of that but that nothing is written.
func (w *town) quiet(t *testing.T) {
	last := int64(-1)
	for range 10 {
		time.Sleep(3 * time.Second)
		written := w.io(t, "write_bytes:")
		if written == last {
			return
		}
		last = written
	}
}

// rest measures a hub that has nothing to do but listen.
func (w *town) rest(t *testing.T, d time.Duration) {
	began, cpu, own, heard, published, written, deeds := time.Now(), w.cpu(), ownCPU(t), w.heard.Load(), w.published.Load(), w.io(t, "write_bytes:"), w.deeds.len()
	passed, switched := w.io(t, "wchar:"), w.contextSwitches(t)
	time.Sleep(d)
	took := time.Since(began)
	share := func(d time.Duration) float64 { return 100 * float64(d) / float64(took) }
	persecond := func(n int64) float64 { return float64(n) / took.Seconds() }
	w.note("CPU of the hub at rest, of the load", "%.1f %%, %.1f %%", share(w.cpu()-cpu), share(ownCPU(t)-own))
	w.note("  messages in, messages to domains", "%.0f/s, %.1f/s", persecond(w.published.Load()-published), persecond(w.heard.Load()-heard))
	w.note("  bytes written, to sockets and disk", "%.0f/s", persecond(w.io(t, "wchar:")-passed))
	w.note("  context switches", "%.0f/s", persecond(w.contextSwitches(t)-switched))
	w.note("memory of the hub", "%s", mb(field(t, w.hub.PID(), "status", "VmRSS:")*1024))
	w.note("written to disk at rest, a day", "%s", mb(int64(persecond(w.io(t, "write_bytes:")-written)*86400)))
	if n := w.deeds.len() - deeds; n != 0 {
		t.Errorf("at rest %d instances were started or stopped", n)
	}
}

func (w *town) contextSwitches(t *testing.T) int64 {
	var n int64
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", w.hub.PID()))
	for _, task := range tasks {
		b, err := os.ReadFile(task + "/status")
		if err != nil {
			continue // a thread that has ended
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 2 && strings.HasSuffix(f[0], "voluntary_ctxt_switches:") {
				v, _ := strconv.ParseInt(f[1], 10, 64)
				n += v
			}
		}
	}
	return n
}

// losses pulls the cable of a domain that runs one of a few copies.
func (w *town) losses(t *testing.T) {
	const service = "room-0-7" // one copy
	mark := w.crowd.hub.len()
	deeds := w.deeds.len()
	var lost *follower
	for _, f := range w.followers {
		f.mu.Lock()
		if _, runs := f.runs[service]; runs {
			lost, f.silent = f, true
		}
		f.mu.Unlock()
	}
	if lost == nil {
		t.Fatalf("nobody runs %s", service)
	}
	cut := time.Now()
	d, ok := w.deeds.await(30*time.Second, deeds, func(d deed) bool { return d.What == "start" && d.Service == service })
	if !ok {
		t.Fatalf("%s was not moved away from %s", service, lost.name)
	}
	w.note("cable out → its service is ordered elsewhere", "%s", ms(d.At.Sub(cut)))
	w.sees(10*time.Second, mark, "one is missing", func(h topics.Hub) bool { return h.Domains.Online == len(w.followers)-1 })
	lost.mu.Lock()
	lost.silent = false
	lost.line.conn.Close() // its broker had given it up by now
	lost.mu.Unlock()
	w.settled(20*time.Second, w.crowd.hub.len())
	w.quiet(t)
}

// switches measures from the ON that is published until the start command is at
// the domain that it is for.
func (w *town) switches(t *testing.T) {
	const service = "room-0-9"
	conn, err := net.Dial("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	l := &line{conn: conn, in: nil, version: 4}
	defer l.conn.Close()
	l.send(0x10, append(append(text("MQTT"), 4, 2, 0, 0), text("switch")...))
	topic := w.tree.Service(topics.ServiceSet, service)
	var on []time.Duration
	cpu := w.cpu()
	const times = 20
	for range times {
		for _, s := range []struct{ word, what string }{{topics.On, "start"}, {topics.Off, "stop"}} {
			mark, at := w.deeds.len(), time.Now()
			l.publish(0, 0, topic, s.word)
			d, ok := w.deeds.await(10*time.Second, mark, func(d deed) bool { return d.What == s.what && d.Service == service })
			if !ok {
				t.Fatalf("%s of %s: nothing happens", s.word, service)
			}
			if s.word == topics.On {
				on = append(on, d.At.Sub(at))
			}
		}
	}
	slices.Sort(on)
	w.note("ON → start command at the domain", "%s (%s to %s)", ms(on[len(on)/2]), ms(on[0]), ms(on[len(on)-1]))
	w.note("  CPU of the hub for it", "%s", ms((w.cpu()-cpu)/(2*times)))
	w.quiet(t)
}

// restarts ends the hub in several ways and measures until it is settled, from
// the start of the next one.
func (w *town) restarts(t *testing.T) {
	for _, r := range []struct {
		what string
		end  func()
		away time.Duration // as systemd waits, or not at all
	}{
		{"kill -9, started at once", w.hubKilled, 0},
		{"kill -9, started 2 s later", w.hubKilled, 2 * time.Second},
		{"SIGTERM, started at once", w.hubStopped, 0},
	} {
		w.quiet(t)
		deeds, orders, discovery, refused := w.deeds.len(), w.orders.Load(), w.discovery.Load(), w.refused.Load()
		r.end()
		time.Sleep(r.away)
		mark, began, own := w.crowd.hub.len(), time.Now(), ownCPU(t)
		w.start()
		s := w.settled(time.Minute, mark)
		w.note(r.what+" → settled", "%s", ms(s.At.Sub(began)))
		own = ownCPU(t) - own
		cpu := w.cpu()
		w.quiet(t)
		w.note("  CPU of the hub, of the load", "%s, %s", ms(cpu), ms(own))
		w.note("  start commands, discovery, written", "%d, %d, %s", w.orders.Load()-orders, w.discovery.Load()-discovery, mb(w.io(t, "write_bytes:")))
		if n := w.deeds.len() - deeds; n != 0 {
			all, _ := w.deeds.from(deeds)
			t.Errorf("%s: %d instances were started or stopped: %v", r.what, n, all[:min(n, 10)])
		}
		if n := w.refused.Load() - refused; n != 0 {
			t.Errorf("%s: %d joins were refused", r.what, n)
		}
	}
}

func (w *town) hubKilled() { w.hub.Kill() }

func (w *town) hubStopped() {
	w.hub.Signal(syscall.SIGTERM)
	w.hub.Wait()
}

// rested weighs the hub again after all this.
func (w *town) rested(t *testing.T) {
	w.note("memory of the hub after it", "%s", mb(field(t, w.hub.PID(), "status", "VmRSS:")*1024))
	w.note("  its most", "%s", mb(field(t, w.hub.PID(), "status", "VmHWM:")*1024))
}

func ms(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64) + " ms"
}

// freePort is a TCP port that nobody has.
func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
