package supervisor

import (
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// TestOwnerByNumber: run_as takes a user's number, as the configuration says.
func TestOwnerByNumber(t *testing.T) {
	uid := strconv.Itoa(os.Getuid())
	if o, err := findOwner(uid); os.Getuid() != 0 && (err != nil || o.credential != nil) {
		t.Errorf("run_as = %q: %+v, %v", uid, o, err)
	}
	if _, err := findOwner("4294967290"); err == nil {
		t.Error("a user that is not there was found")
	}
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can run services as another user")
	}
}

// The services of an agent that is root are not, unless the machine's own
// configuration names them; the devices of the machine are open to them.
func TestServicesAreUnprivileged(t *testing.T) {
	needsRoot(t)
	h := newHost(t, func(o *Options) { o.AllowRoot = []string{"mounter"} })
	for _, name := range []string{"web", "mounter"} {
		h.makefile(name, `id -u; id -G; echo $USER; cd; touch in-home $SERVICE_DATA_DIR/data && echo kept; exec sleep 100`)
	}
	h.apply(map[string]topics.Spec{"web": spec("r1"), "mounter": spec("r1")})
	fields := func(name string) []string {
		h.until(name+" wrote", func() bool { return strings.HasSuffix(h.read("logs/"+name+"/stdout.log"), "kept") })
		return strings.Split(h.read("logs/"+name+"/stdout.log"), "\n")
	}
	want, missing, err := defaultOwner()
	if err != nil {
		t.Fatal(err)
	}
	web := fields("web")
	if web[0] != strconv.Itoa(want.uid) || web[0] == "0" || web[2] != want.name {
		t.Errorf("web runs as %q", web)
	}
	for _, name := range deviceGroups {
		if g, err := user.LookupGroup(name); err == nil && !slices.Contains(strings.Fields(web[1]), g.Gid) {
			t.Errorf("web is not in the group %s (%s): %s", name, g.Gid, web[1])
		}
	}
	if mounter := fields("mounter"); mounter[0] != "0" || mounter[2] != "root" {
		t.Errorf("mounter runs as %q", mounter)
	}
	if n := strings.Count(h.log.String(), "there is no user "+DefaultUser+": services run as nobody"); (n == 1) != missing {
		t.Errorf("a missing user was logged %d times:\n%s", n, h.log.String())
	}
	for name, uid := range map[string]int{"web": want.uid, "mounter": 0} {
		info, err := os.Stat(h.s.serviceData(name))
		if err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != uid {
			t.Errorf("data of %s: %v, %v", name, info, err)
		}
	}
}

func TestRunAsIsNeverRoot(t *testing.T) {
	needsRoot(t)
	for _, name := range []string{"root", "0"} {
		if _, err := New(Options{RunAs: name, DataDir: t.TempDir(), Post: func(Event) {}}); err == nil || !strings.Contains(err.Error(), "allow_root") {
			t.Errorf("run_as = %q: %v", name, err)
		}
	}
}

// What a service wrote as root, before an upgrade, is its user's from the next
// start on; what lies elsewhere stays whose it is.
func TestDataOfTheFormerUserIsGiven(t *testing.T) {
	needsRoot(t)
	h := newHost(t)
	h.makefile("web", `echo more >> $SERVICE_DATA_DIR/a/b/old && echo kept; exec sleep 100`)
	h.write("outside", "root's\n")
	h.write("linked", "root's\n")
	h.write("data/data/web/a/b/old", "of root\n")
	h.write("data/data/web/a/of-another", "\n")
	at := func(name string) string { return filepath.Join(h.dir, name) }
	for _, err := range []error{
		os.Symlink(at("outside"), at("data/data/web/a/symlink")),
		os.Link(at("linked"), at("data/data/web/a/link")),
		os.Symlink(h.dir, at("data/data/web/a/up")),
		os.Lchown(at("data/data/web/a/of-another"), 4242, 4242),
		syscall.Mkfifo(at("data/data/web/a/fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h.apply(one("web", spec("r1")))
	h.until("it could write", func() bool { return strings.Contains(h.read("logs/web/stdout.log"), "kept") })
	own, _, err := defaultOwner()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"data/data/web": own.uid, "data/data/web/a": own.uid, "data/data/web/a/b/old": own.uid, "data/data/web/a/fifo": own.uid,
		"data/data/web/a/of-another": 4242, "data/data/web/a/link": 0, "outside": 0, "linked": 0, ".": 0, "data": 0, "services/web/Makefile": 0,
	} {
		info, err := os.Lstat(at(name))
		if err != nil {
			t.Fatal(err)
		}
		if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != want {
			t.Errorf("%s belongs to %d, want %d", name, uid, want)
		}
	}
}

// A process of the services' user that claims in its environment to be a service
// that runs as root is not taken for it.
func TestTheUserOfTheServicesIsNotRootsService(t *testing.T) {
	needsRoot(t)
	own, _, err := defaultOwner()
	if err != nil {
		t.Fatal(err)
	}
	u := users{allowRoot: []string{"mounter"}}
	for service, may := range map[string]bool{"mounter": false, "web": true} {
		if u.mayRunAs(service, own.uid) != may || !u.mayRunAs(service, 0) || u.mayRunAs(service, own.uid-1) {
			t.Errorf("%s: %v for user %d", service, !may, own.uid)
		}
	}
}
