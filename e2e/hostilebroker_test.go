package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// hostileBroker takes every client and floods it.
type hostileBroker struct {
	address string
	sent    atomic.Int64 // bytes that clients took
	ended   atomic.Int64 // connections that clients ended
}

// newHostileBroker listens on loopback. flood writes to a client until that has
// enough of it.
func newHostileBroker(t *testing.T, flood func(w io.Writer) error) *hostileBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &hostileBroker{address: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(c, flood)
		}
	}()
	return b
}

func (b *hostileBroker) serve(c net.Conn, flood func(io.Writer) error) {
	defer b.ended.Add(1)
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		kind, body, err := readPacket(r)
		if err != nil {
			return
		}
		switch kind >> 4 {
		case 1: // CONNECT
			_, err = c.Write([]byte{0x20, 2, 0, 0})
		case 8: // SUBSCRIBE: granted, and then the flood
			_, err = c.Write(suback(body))
			go func() {
				for err := error(nil); err == nil; {
					err = flood(counter{c, &b.sent})
				}
			}()
		}
		if err != nil {
			return
		}
	}
}

func readPacket(r *bufio.Reader) (kind byte, body []byte, err error) {
	if kind, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, size)
	_, err = io.ReadFull(r, body)
	return kind, body, err
}

// suback grants each filter of a SUBSCRIBE of MQTT 3.1.1.
func suback(subscribe []byte) []byte {
	var codes []byte
	for rest := subscribe[2:]; len(rest) > 2; codes = append(codes, 0) {
		rest = rest[2+int(binary.BigEndian.Uint16(rest))+1:]
	}
	return append([]byte{0x90, byte(2 + len(codes)), subscribe[0], subscribe[1]}, codes...)
}

type counter struct {
	io.Writer
	n *atomic.Int64
}

func (c counter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// publishOf returns a PUBLISH of QoS 0 with a payload of so many bytes, retained.
func publishOf(topic string, payload int) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(body, topic...)
	packet := binary.AppendUvarint([]byte{0x31}, uint64(len(body)+payload))
	return append(append(packet, body...), bytes.Repeat([]byte{'x'}, payload)...)
}

// hostileFloods are what a broker can send.
func hostileFloods() map[string]func(io.Writer) error {
	many, small := publishOf("dominion/domain/kitchen/status", 1<<20), bytes.Repeat(publishOf("dominion/domain/kitchen/services/set", 40), 1000)
	header := append(binary.AppendUvarint([]byte{0x31}, 268_435_455), 0, 1, 'a')
	zeros := make([]byte, 1<<20)
	write := func(p []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(p); return err }
	}
	return map[string]func(io.Writer) error{
		"messages of 1 MiB": write(many),
		"small messages":    write(small),
		"one packet without an end": func(w io.Writer) error {
			_, err := w.Write(header)
			for range 255 {
				if err == nil {
					_, err = w.Write(zeros)
				}
			}
			return err
		},
	}
}

// What a client of ours may take of the machine's memory, whatever its broker does.
const mostOfAClient = 160 << 10 // kB; the documents say some 100 MB

// watchPeak reads the high-water mark of a process's memory while it runs. The function that
// it returns is called after the process has ended, and returns the last mark that was read,
// in kB. The mark is of the memory that exec made, while Maxrss of wait4 begins with the peak
// of the process that forked.
func watchPeak(pid int) func() int64 {
	end, peak := make(chan struct{}), make(chan int64, 1)
	go func() {
		last := int64(0)
		for {
			if kB, err := processField(pid, "status", "VmHWM:"); err == nil {
				last = kB
			}
			select {
			case <-end:
				peak <- last
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(end); return <-peak }
}

// A broker that floods whoever connects takes no memory worth mentioning of
// dominionctl or an agent, and both end when they are told to.
func TestHostileBroker(t *testing.T) {
	needs(t)
	t.Parallel()
	for name, flood := range hostileFloods() {
		t.Run(name, func(t *testing.T) {
			t.Run("dominionctl", func(t *testing.T) {
				b := newHostileBroker(t, flood)
				cmd := exec.Command(programs.dominionctl, "status", "--timeout", "5s", "--hub", b.address)
				cmd.Dir, cmd.Env = t.TempDir(), plainEnvironment(t.TempDir())
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				peak := watchPeak(cmd.Process.Pid)
				_ = cmd.Wait() // the exit code is looked at below
				used := peak()
				if used == 0 {
					t.Error("its memory was never read")
				}
				t.Logf("exit code %d, %d kB, took %d kB: %.200s", cmd.ProcessState.ExitCode(), used, b.sent.Load()>>10, out.Bytes())
				if b.sent.Load() == 0 {
					t.Error("it never took part of the flood")
				}
				if cmd.ProcessState.ExitCode() <= 0 || used > mostOfAClient {
					t.Errorf("exit code %d, %d kB of memory", cmd.ProcessState.ExitCode(), used)
				}
			})
			t.Run("domain", func(t *testing.T) {
				b := newHostileBroker(t, flood)
				dir := t.TempDir()
				config := filepath.Join(dir, "domain.toml")
				text := fmt.Sprintf("name = \"kitchen\"\nservices_dir = %q\ndata_dir = %q\nhub = %q\n[zeroconf]\nenabled = false\n", filepath.Join(dir, "services"), filepath.Join(dir, "data"), b.address)
				if err := writeFile(config, text); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(programs.domain, "-config", config)
				cmd.Env = plainEnvironment(dir)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				const enough = 512 << 20 // far above what it may hold
				deadline := time.Now().Add(time.Minute)
				for b.sent.Load() < enough && b.ended.Load() < 3 && time.Now().Before(deadline) {
					time.Sleep(20 * time.Millisecond)
				}
				peak := field(t, cmd.Process.Pid, "status", "VmHWM:")
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Error(err)
				}
				timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
				defer timer.Stop()
				if err := cmd.Wait(); err != nil {
					t.Errorf("it did not end as told: %v", err)
				}
				t.Logf("%d kB, took %d kB in %d connections that it ended", peak, b.sent.Load()>>10, b.ended.Load())
				if b.sent.Load() == 0 {
					t.Error("it never took part of the flood")
				}
				if peak > mostOfAClient {
					t.Errorf("it took %d kB of memory", peak)
				}
			})
		})
	}
}
