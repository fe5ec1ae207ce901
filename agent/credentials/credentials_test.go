package credentials

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/atomicfile"
)

const dominion = "6f1f0c7e-8d5b-4b9e-9d3a-0b1c2d3e4f50"

// home is a domain whose services have certificates, and its hub.
type home struct {
	t         *testing.T
	o         Options
	authority *identity.Authority
	verifier  *identity.Verifier
	lifetime  time.Duration
	problems  []string
	now       time.Time
}

// newHome returns a domain; one of an agent that is root has its services run as nobody.
func newHome(t *testing.T) *home {
	h := &home{t: t, lifetime: 3 * time.Hour, now: time.Now()}
	h.authority = newAuthority(t)
	h.verifier = &identity.Verifier{Dominion: dominion, Roots: []*x509.Certificate{h.authority.Root}}
	dir := t.TempDir()
	if os.Getuid() == 0 { // the test's directories are root's alone
		for up := dir; up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
			must(t, os.Chmod(up, 0o755))
		}
	}
	must(t, os.MkdirAll(filepath.Join(dir, identity.Directory), 0o700))
	h.o = Options{
		DataDir: dir, Domain: "pi", Verifier: func() *identity.Verifier { return h.verifier },
		User: func(string) (*syscall.Credential, error) {
			if os.Getuid() != 0 {
				return nil, nil
			}
			return &syscall.Credential{Uid: 65534, Gid: 65534}, nil
		},
		Files: foreign.New(), Report: func(p string) { h.problems = append(h.problems, p) }, Log: slog.New(slog.DiscardHandler),
	}
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newAuthority(t *testing.T) *identity.Authority {
	a, err := identity.NewAuthority(dominion, time.Now())
	must(t, err)
	return a
}

func (h *home) open() *Credentials {
	h.t.Helper()
	c, err := Open(h.o)
	must(h.t, err)
	return c
}

// issue answers a question as a hub does.
func (h *home) issue(a *identity.Authority, keys map[string][]byte, domain string) map[string][][]byte {
	h.t.Helper()
	chains := make(map[string][][]byte)
	for service, der := range keys {
		key, err := identity.ParsePublicKey(der)
		must(h.t, err)
		chains[service] = h.certify(a, key, service+"."+domain)
	}
	return chains
}

func (h *home) certify(a *identity.Authority, key *ecdsa.PublicKey, name string) [][]byte {
	h.t.Helper()
	cert, err := a.Issue(identity.Request{
		Subject: identity.Subject{Dominion: dominion, Use: identity.ServiceUse, Name: name}, Key: key, At: h.now, Lifetime: h.lifetime,
	})
	must(h.t, err)
	return [][]byte{cert.Raw}
}

// certified has the hub answer what is asked, and returns for which services.
func (h *home) certified(c *Credentials) []string {
	h.t.Helper()
	c.step(h.now)
	asked := c.Keys()
	if len(asked) > 0 {
		c.Answered(asked, h.issue(h.authority, asked, h.o.Domain), nil)
		c.answers[len(c.answers)-1].at = h.now
		c.step(h.now)
	}
	var names []string
	for name := range asked {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// files returns the files of a service, by the last part of their variables.
func (h *home) files(c *Credentials, service string) map[string]string {
	h.t.Helper()
	all := make(map[string]string)
	for name, path := range c.Environment(service) {
		text, err := os.ReadFile(path)
		must(h.t, err)
		all[strings.TrimPrefix(name, "DOMINION_")] = string(text)
	}
	return all
}

// A service gets its files before it is started, as only its user can read them; a renewal after
// two thirds replaces the certificate alone; all of it is on disk for the next agent.
func TestFilesAndRenewal(t *testing.T) {
	h := newHome(t)
	c := h.open()
	if c.step(h.now); len(c.Keys()) > 0 {
		t.Error("it asks although nobody wants certificates")
	}
	c.Want([]string{"bell", "web"}, true)
	if got := h.certified(c); !slices.Equal(got, []string{"bell", "web"}) {
		t.Fatalf("asked for %v", got)
	}
	before := h.files(c, "web")
	if h.files(c, "bell")["KEY_FILE"] == before["KEY_FILE"] {
		t.Error("two services have one key")
	}
	if before["CA_FILE"] != string(identity.EncodeCertificates(h.authority.Root)) {
		t.Error("the authority is not in CA_FILE")
	}
	uid, _ := ids(first(h.o.User("web")))
	for path, mode := range map[string]fs.FileMode{
		filepath.Join(h.o.DataDir, Directory): fs.ModeDir | 0o711, filepath.Join(h.o.DataDir, Directory, "web"): fs.ModeDir | 0o700,
		c.Environment("web")["DOMINION_KEY_FILE"]: 0o600, c.Environment("web")["DOMINION_CERT_FILE"]: 0o600,
	} {
		info, err := os.Lstat(path)
		must(t, err)
		if info.Mode() != mode || mode&0o011 == 0 && int(info.Sys().(*syscall.Stat_t).Uid) != uid {
			t.Errorf("%s: %v", path, info.Mode())
		}
	}

	h.now = h.now.Add(119 * time.Minute)
	if got := h.certified(c); got != nil {
		t.Errorf("%v is renewed before two thirds", got)
	}
	c = h.open() // another agent
	c.Want([]string{"bell", "web"}, true)
	if got := h.certified(c); got != nil {
		t.Errorf("another agent asks for %v", got)
	}
	h.now = h.now.Add(2 * time.Minute)
	if got := h.certified(c); !slices.Equal(got, []string{"bell", "web"}) {
		t.Fatalf("renewed %v", got)
	}
	after := h.files(c, "web")
	if after["KEY_FILE"] != before["KEY_FILE"] || after["CERT_FILE"] == before["CERT_FILE"] || len(h.problems) > 0 {
		t.Errorf("after the renewal: %v", h.problems)
	}
	must(t, os.Mkdir(filepath.Join(h.o.DataDir, Directory, newDirectory+"1"), 0o700)) // of one that was killed
	c.sweep()
	if names, err := os.ReadDir(filepath.Join(h.o.DataDir, Directory)); err != nil || len(names) != 2 {
		t.Errorf("left behind: %v %v", names, err)
	}
}

func first[T any](v T, _ error) T { return v }

// Whatever the user of a service has made of its directory is neither followed nor waited for, and
// the service has its files again.
func TestHostileDirectory(t *testing.T) {
	h := newHome(t)
	target := filepath.Join(t.TempDir(), "target")
	must(t, os.Mkdir(target, 0o700))
	must(t, os.WriteFile(filepath.Join(target, "key.pem"), []byte("precious"), 0o600))
	for name, spoil := range map[string]func(dir string){
		"removed": func(dir string) { must(t, os.RemoveAll(dir)) },
		"links": func(dir string) {
			for _, f := range []string{"ca.pem", "cert.pem", "key.pem"} {
				must(t, os.Remove(filepath.Join(dir, f)))
				must(t, os.Symlink(filepath.Join(target, "key.pem"), filepath.Join(dir, f)))
			}
		},
		"FIFO": func(dir string) {
			must(t, os.Remove(filepath.Join(dir, "cert.pem")))
			must(t, syscall.Mkfifo(filepath.Join(dir, "cert.pem"), 0o600))
		},
		"directory": func(dir string) {
			must(t, os.Remove(filepath.Join(dir, "key.pem")))
			must(t, os.MkdirAll(filepath.Join(dir, "key.pem", "x"), 0o700))
		},
		"open to all": func(dir string) { must(t, os.Chmod(dir, 0o777)) },
		"key open":    func(dir string) { must(t, os.Chmod(filepath.Join(dir, "key.pem"), 0o644)) },
		"others":      func(dir string) { must(t, os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("x"), 0o600)) },
	} {
		c := h.open()
		c.Want([]string{"web"}, true)
		h.certified(c)
		want, dir := h.files(c, "web"), filepath.Join(h.o.DataDir, Directory, "web")
		spoil(dir)
		c.Check("web")
		h.now = time.Now().Add(2 * checkDelay)
		c.step(h.now)
		if got := h.files(c, "web"); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: the files are others", name)
		}
		if info, err := os.Lstat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(target, "key.pem")); err != nil || string(text) != "precious" {
		t.Errorf("a link was followed: %q %v", text, err)
	}
}

// A former directory that cannot be removed keeps nobody from its certificate.
func TestFormerDirectoryThatStays(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount")
	}
	h := newHome(t)
	c := h.open()
	c.Want([]string{"bell", "web"}, true)
	h.certified(c)
	want := h.files(c, "web")
	inside := filepath.Join(h.o.DataDir, Directory, "bell", "x")
	must(t, os.Mkdir(inside, 0o700))
	if err := syscall.Mount("none", inside, "tmpfs", 0, ""); err != nil {
		t.Skip("cannot mount here:", err)
	}
	t.Cleanup(func() {
		all, _ := filepath.Glob(filepath.Join(h.o.DataDir, Directory, "*", "x"))
		hidden, _ := filepath.Glob(filepath.Join(h.o.DataDir, Directory, ".new-*", "x"))
		for _, dir := range append(all, hidden...) {
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	for _, service := range []string{"bell", "web"} {
		must(t, os.Remove(c.Environment(service)["DOMINION_CERT_FILE"]))
		c.Check(service)
	}
	c.step(time.Now().Add(2 * checkDelay))
	h.files(c, "bell")
	if got := h.files(c, "web"); fmt.Sprint(got) != fmt.Sprint(want) || len(h.problems) > 0 {
		t.Errorf("web has other files; %v", h.problems)
	}
}

// Nothing but a certificate of this key and name, which the pinned authority has issued, is taken; what
// is refused is asked for again later, and at once by a new connection.
func TestWrongAnswers(t *testing.T) {
	h := newHome(t)
	c := h.open()
	other, err := identity.NewKey()
	must(t, err)
	asked := func() map[string][]byte {
		c.Want([]string{"web"}, true)
		c.step(h.now)
		if len(c.Keys()) != 1 {
			t.Fatal("it does not ask")
		}
		return c.Keys()
	}
	for name, answer := range map[string]func(map[string][]byte) (map[string][][]byte, error){
		"none":          func(map[string][]byte) (map[string][][]byte, error) { return nil, nil },
		"error":         func(map[string][]byte) (map[string][][]byte, error) { return nil, errors.New("refused") },
		"other machine": func(k map[string][]byte) (map[string][][]byte, error) { return h.issue(h.authority, k, "attic"), nil },
		"other key": func(map[string][]byte) (map[string][][]byte, error) {
			return map[string][][]byte{"web": h.certify(h.authority, &other.PublicKey, "web.pi")}, nil
		},
		"other authority": func(k map[string][]byte) (map[string][][]byte, error) { return h.issue(newAuthority(t), k, "pi"), nil },
		"nonsense": func(map[string][]byte) (map[string][][]byte, error) {
			return map[string][][]byte{"web": {[]byte("x")}}, nil
		},
	} {
		keys := asked()
		chains, err := answer(keys)
		c.Answered(keys, chains, err)
		if len(c.Keys()) > 0 {
			t.Errorf("%s: it asks before it has taken the answer", name)
		}
		c.step(h.now)
		if len(c.Keys()) > 0 || c.entries["web"].chain != nil {
			t.Errorf("%s was taken, or is asked for again at once", name)
		}
		if _, err := os.Lstat(c.Environment("web")["DOMINION_CERT_FILE"]); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there are files: %v", name, err)
		}
		if c.step(time.Now().Add(firstRetry)); len(c.Keys()) != 1 {
			t.Errorf("%s: it does not ask again", name)
		}
	}
	asked()
	if h.certified(c); c.entries["web"].chain == nil {
		t.Error("the right one is not taken")
	}
}

// A certificate ends by another name of the domain and by another authority: the service gets
// another one, of the same key. Where the authority was replaced its file says so.
func TestRenamedDomainAndReplacedAuthority(t *testing.T) {
	h := newHome(t)
	c := h.open()
	c.Want([]string{"web"}, true)
	h.certified(c)
	before := h.files(c, "web")
	h.o.Domain = "attic"
	c = h.open()
	c.Want([]string{"web"}, true)
	if got := h.certified(c); len(got) != 1 {
		t.Error("a renamed domain asks for nothing")
	}
	h.authority = newAuthority(t)
	h.verifier = &identity.Verifier{Dominion: dominion, Roots: []*x509.Certificate{h.authority.Root}}
	c.TrustChanged(false)
	if got := h.certified(c); len(got) != 1 {
		t.Error("it asks for nothing after the authority was replaced")
	}
	after := h.files(c, "web")
	if after["KEY_FILE"] != before["KEY_FILE"] || after["CERT_FILE"] == before["CERT_FILE"] || after["CA_FILE"] == before["CA_FILE"] {
		t.Error("the files are not those of the renamed domain and the other authority")
	}
}

// A key that was revoked is not asked for, and replaced when the agent starts again.
func TestRevokedKey(t *testing.T) {
	h := newHome(t)
	c := h.open()
	c.Want([]string{"web"}, true)
	h.certified(c)
	before := h.files(c, "web")
	revoked := *h.verifier
	revoked.Keys = &identity.KeyList{Revoked: []identity.RevokedKey{{Key: c.entries["web"].hash}}}
	h.verifier = &revoked
	c.TrustChanged(false)
	c.Want([]string{"web"}, true)
	if got := h.certified(c); got != nil || len(h.problems) != 1 || !strings.Contains(h.problems[0], "restarted") {
		t.Errorf("asked for %v; problems %v", got, h.problems)
	}
	c = h.open()
	c.Want([]string{"web"}, true)
	if got := h.certified(c); len(got) != 1 || h.files(c, "web")["KEY_FILE"] == before["KEY_FILE"] {
		t.Error("another agent goes on with the revoked key")
	}
}

// A service that is not on the disk any more has its files as long as its certificate lasts:
// services_dir may be mounted later.
func TestServiceThatIsGone(t *testing.T) {
	h := newHome(t)
	c := h.open()
	c.Want([]string{"bell", "web"}, true)
	h.certified(c)
	c.Want([]string{"web"}, false)
	c.step(h.now)
	h.files(c, "bell")
	h.now = h.now.Add(h.lifetime + time.Second)
	h.certified(c)
	if _, err := os.Lstat(filepath.Dir(c.Environment("bell")["DOMINION_CERT_FILE"])); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what has ended is still there", err)
	}
	if c = h.open(); len(c.entries) != 1 {
		t.Errorf("stored are %d", len(c.entries))
	}
	must(t, Remove(h.o.DataDir))
	if _, err := os.Lstat(filepath.Join(h.o.DataDir, Directory)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// What is stored and damaged is made anew; the other services keep their keys.
func TestDamagedStore(t *testing.T) {
	h := newHome(t)
	c := h.open()
	c.Want([]string{"web"}, true)
	h.certified(c)
	text, err := os.ReadFile(c.file)
	must(t, err)
	for _, damaged := range []string{"", "{", strings.Replace(string(text), "BEGIN PRIVATE", "BEGIN PUBLIC", 1), strings.Replace(string(text), `"web"`, `"../x"`, 1)} {
		must(t, os.WriteFile(c.file, []byte(damaged), 0o600))
		must(t, os.RemoveAll(c.file+atomicfile.Previous))
		c = h.open()
		c.Want([]string{"web"}, true)
		h.certified(c)
		h.files(c, "web")
	}
}

// Loop and link use it while it works: the link is woken when there is something to ask.
func TestConcurrently(t *testing.T) {
	h := newHome(t)
	c := h.open()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	c.Want([]string{"web"}, true)
	<-c.Changed()
	c.Check("web")
	keys := c.Keys()
	if len(keys) != 1 {
		t.Fatalf("asks for %v", keys)
	}
	c.Answered(keys, h.issue(h.authority, keys, "pi"), nil)
	c.TrustChanged(false)
	c.Want([]string{"bell", "web"}, false)
	<-c.Changed() // for bell
	cancel()
	running.Wait()
	c.step(time.Now())
	h.files(c, "web")
}

// BenchmarkStart measures what a start of a service waits for.
func BenchmarkStart(b *testing.B) {
	c := &Credentials{dir: "/var/lib/dominion/credentials", wake: make(chan struct{}, 1), checks: make(map[string]time.Time)}
	b.ReportAllocs()
	for b.Loop() {
		c.Environment("web")
		c.Check("web")
	}
}

// Where the hub finds that certificates have ended, they are asked for at once, once: the clock
// of this machine may be wrong.
func TestRenewNow(t *testing.T) {
	h := newHome(t)
	c := h.open()
	c.Want([]string{"web"}, true)
	h.certified(c)
	if got := h.certified(c); len(got) != 0 {
		t.Fatalf("asked for %v", got)
	}
	if all := c.Certified(); len(all) != 1 || !slices.Equal(h.open().Certified(), all) {
		t.Errorf("certified are %v, and %v after a restart", all, h.open().Certified())
	}
	c.RenewNow()
	if got := h.certified(c); len(got) != 1 {
		t.Errorf("asked for %v", got)
	}
	if got := h.certified(c); len(got) != 0 {
		t.Errorf("asked again for %v", got)
	}
	if c.Want(nil, false); len(c.Certified()) != 0 {
		t.Errorf("where services get no certificates, certified are %v", c.Certified())
	}
}
