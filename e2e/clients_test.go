package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What others wrote speaks to the hub's broker as it does to any: messages of
// each QoS both ways, retained ones, a will, a session that was away, and what
// MQTT 5 adds. Each program tries all of it and prints what went well.
func TestOtherClients(t *testing.T) {
	home := onEmbedded(t)
	home.WriteHubConfig(fmt.Sprintf("data_dir = %q\n\n[broker]\nlisten = \":1883\"\nlisten_ws = \":8083\"\nallow_anonymous = true\n", filepath.Join(home.Hub.Dir, "data")))
	home.Up()
	clients, err := filepath.Abs("testdata/clients")
	home.must(err)
	old := "qos retained will session"
	all := old + " properties request"
	speaks := func(t *testing.T, want string, env []string, name string, args ...string) {
		t.Helper()
		r := home.observer.Exec(env, name, args...)
		if got := strings.Join(strings.Fields(r.Stdout), " "); r.Code != 0 || got != want {
			t.Errorf("went well: %q, want %q; exit code %d\n%s", got, want, r.Code, r.Stderr)
		}
	}

	t.Run("paho of Go", func(t *testing.T) {
		program := filepath.Join(t.TempDir(), "paho")
		home.must(command("go", "build", "-o", program, "./testdata/clients/paho"))
		speaks(t, old, nil, program, home.Hub.Address()+":1883")
	})
	t.Run("paho of Python", func(t *testing.T) {
		needs(t, "python3")
		dir := fetched(t, "paho-mqtt-2.1.0", func(dir string) *exec.Cmd {
			return exec.Command("python3", "-m", "pip", "install", "--quiet", "--no-input", "--target", dir, "paho-mqtt==2.1.0")
		})
		for version, want := range map[string]string{"4": old, "5": all} {
			speaks(t, want, []string{"PYTHONPATH=" + dir, "PYTHONDONTWRITEBYTECODE=1"}, "python3", filepath.Join(clients, "python.py"), home.Hub.Address(), "1883", version)
		}
	})
	t.Run("MQTT.js", func(t *testing.T) {
		needs(t, "node", "npm")
		dir := fetched(t, "mqttjs-5.16.0", func(dir string) *exec.Cmd {
			return exec.Command("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "mqtt@5.16.0")
		})
		for version, want := range map[string]string{"4": old, "5": all} {
			for _, url := range []string{"ws://" + home.Hub.Address() + ":8083/mqtt", "mqtt://" + home.Hub.Address() + ":1883"} { // the latter is Zigbee2MQTT's way
				speaks(t, want, []string{"NODE_PATH=" + filepath.Join(dir, "node_modules")}, "node", filepath.Join(clients, "mqttjs.js"), url, version)
			}
		}
	})
	t.Run("mosquitto", func(t *testing.T) {
		needs(t, "stdbuf") // or mosquitto_sub tells too late that it has subscribed
		for _, version := range []string{"31", "311", "5"} {
			mosquittoSpeaks(t, home, version)
		}
	})
}

// fetched is a directory below the user's cache with what get puts into dir.
// The machine's own network is there for this alone. Where it cannot be
// fetched the test is skipped and says so.
func fetched(t *testing.T, name string, get func(dir string) *exec.Cmd) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("needs a cache for %s: %v", name, err)
	}
	dir := filepath.Join(cache, "dominion-e2e", name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Skipf("needs a cache for %s: %v", name, err)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), name+".")
	if err != nil {
		t.Skipf("needs a cache for %s: %v", name, err)
	}
	defer os.RemoveAll(temporary)
	out, err := outside(get(temporary))
	if err == nil {
		err = os.Chmod(temporary, 0o755)
	}
	if err == nil {
		err = os.Rename(temporary, dir)
	}
	if err != nil {
		t.Skipf("needs %s, which cannot be fetched: %v\n%s", name, err, out)
	}
	return dir
}

// outside runs a command in the machine's own network, with its /run, where
// the addresses of name servers may be.
func outside(cmd *exec.Cmd) (string, error) {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = patience
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		started <- func() error {
			if err := unix.Setns(outerNetwork, unix.CLONE_NEWNET); err != nil {
				return err
			}
			if err := unshareMounts(); err != nil {
				return err
			}
			if err := unix.Unmount("/run", unix.MNT_DETACH); err != nil {
				return err
			}
			return cmd.Start()
		}()
	}()
	if err := <-started; err != nil {
		return "", err
	}
	timer := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	return out.String(), err
}

// mosquittoSpeaks tries with Debian's clients what the other programs try.
func mosquittoSpeaks(t *testing.T, home *Home, version string) {
	t.Helper()
	prefix := "clients/mosquitto" + version
	common := slices.Clip(append(home.clientArgs(), "-V", "mqttv"+version))
	pub := func(args ...string) {
		t.Helper()
		if r := home.observer.Exec(nil, "mosquitto_pub", append(common, args...)...); r.Code != 0 {
			t.Errorf("MQTT %s: mosquitto_pub %q: %+v", version, args, r)
		}
	}
	// sub is what a mosquitto_sub prints of its first n messages; then, when it
	// is there, do publishes them
	sub := func(n int, format string, do func(), args ...string) string {
		t.Helper()
		args = append(append(common, "-C", fmt.Sprint(n), "-W", "60", "-F", format), args...)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "stdbuf", append([]string{"-oL", "mosquitto_sub", "-d"}, args...)...)
		var printed []string
		subscribed, ended := make(chan struct{}), make(chan struct{})
		output, err := cmd.StdoutPipe()
		home.must(err)
		home.must(home.observer.in(cmd.Start))
		go func() {
			defer close(ended)
			readLines(output, func(line string) {
				switch {
				case strings.HasPrefix(line, "Subscribed "):
					close(subscribed)
				case strings.HasPrefix(line, "= "):
					printed = append(printed, strings.TrimPrefix(line, "= "))
				}
			})
		}()
		select {
		case <-subscribed:
			do()
		case <-ended:
		}
		<-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("MQTT %s: mosquitto_sub %q: %v", version, args, err)
		}
		return strings.Join(printed, ", ")
	}
	equal := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("MQTT %s: %s: %q, want %q", version, what, got, want)
		}
	}
	nothing := func() {}

	equal("each QoS", sub(3, "= %q %r %p", func() {
		for _, qos := range []string{"0", "1", "2"} {
			pub("-t", prefix+"/qos", "-q", qos, "-m", "with "+qos)
		}
	}, "-q", "2", "-t", prefix+"/qos"), "0 0 with 0, 1 0 with 1, 2 0 with 2")

	pub("-t", prefix+"/retained", "-q", "2", "-r", "-m", "kept")
	equal("retained", sub(1, "= %q %r %p", nothing, "-q", "2", "-t", prefix+"/retained"), "2 1 kept")
	pub("-t", prefix+"/retained", "-r", "-n")

	equal("will", sub(1, "= %q %p", func() {
		dying := exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub", "-d"}, append(common, "-W", "60",
			"-t", prefix+"/none", "--will-topic", prefix+"/will", "--will-payload", "gone", "--will-qos", "1")...)...)
		output, err := dying.StdoutPipe()
		home.must(err)
		home.must(home.observer.in(dying.Start))
		readLines(output, func(line string) {
			if strings.HasPrefix(line, "Subscribed ") {
				dying.Process.Kill()
			}
		})
		dying.Wait()
	}, "-q", "1", "-t", prefix+"/will"), "1 gone")

	away := []string{"-c", "-i", prefix + "away", "-q", "2", "-t", prefix + "/queue"}
	if version == "5" {
		away = append(away, "-x", "600")
	}
	sub(1, "= %p", func() { pub("-t", prefix+"/queue", "-m", "first", "-q", "1") }, away...)
	var queued []string
	for n := range 10 {
		queued = append(queued, fmt.Sprint(1+n/5, " ", n))
		pub("-t", prefix+"/queue", "-q", fmt.Sprint(1+n/5), "-m", fmt.Sprint(n))
	}
	equal("queued", sub(10, "= %q %p", nothing, away...), strings.Join(queued, ", "))
	if version != "5" {
		return
	}

	property := func(name, value string) []string { return []string{"-D", "publish", "user-property", name, value} }
	equal("user properties", sub(1, "= %C %P", func() {
		args := append(property("a", "1"), property("b", "2")...)
		args = append(append(args, property("a", "0")...), "-D", "publish", "content-type", "text/plain")
		pub(append(args, "-t", prefix+"/users", "-q", "1", "-m", "x")...)
	}, "-t", prefix+"/users"), "text/plain a:1 b:2 a:0")

	equal("request", sub(1, "= %R %D %p", func() {
		pub("-t", prefix+"/ask", "-q", "1", "-m", "how warm?", "-D", "publish", "response-topic", prefix+"/answers", "-D", "publish", "correlation-data", "7")
	}, "-t", prefix+"/ask"), prefix+"/answers 7 how warm?")
}
