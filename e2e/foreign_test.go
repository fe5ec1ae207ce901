package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jmbarzee/dominion/topics"
)

// The files of a service are its own, and may be anything: the agent waits for
// none of them, and shows nobody what only it may read.
func TestForeignFiles(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web", "fifo", "link", "log", "program")
	kitchen.Write("program", "service.toml", "command = [\"./run\"]\n")
	kitchen.must(syscall.Mkfifo(filepath.Join(kitchen.ServicesDir(), "program", "run"), 0o755))
	fifo := filepath.Join(kitchen.ServicesDir(), "fifo", "service.toml")
	secret := filepath.Join(kitchen.Dir, "secret")
	link := filepath.Join(kitchen.ServicesDir(), "link", "service.toml")
	logs := filepath.Join(kitchen.DataDir(), "logs", "log")
	kitchen.must(syscall.Mkfifo(fifo, 0o644))
	kitchen.must(os.WriteFile(secret, []byte("password-of-root = 1\n"), 0o600))
	kitchen.must(os.Symlink(secret, link))
	kitchen.must(os.MkdirAll(logs, 0o755))
	kitchen.must(os.Symlink(secret, filepath.Join(logs, "stdout.log")))
	kitchen.must(syscall.Mkfifo(filepath.Join(logs, "stderr.log"), 0o644))
	home.Configure(service("web", `priority = "required"`, healthHTTP) + service("log", `priority = "required"`, healthHTTP) +
		service("fifo", `priority = "required"`) + service("link", `priority = "required"`) + service("program", `priority = "required"`))
	_, agents, o := home.Up(kitchen)
	o.Until("what can run runs", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("log", 1) })
	o.Until("what cannot run says why", func(v View) bool {
		return strings.Contains(v.Instance("kitchen", "program").Message, "it is not a regular file")
	})
	before, starts := home.Lives(o)

	t.Log("a service.toml becomes a FIFO while its service runs")
	mark := o.Now()
	kitchen.must(syscall.Mkfifo(filepath.Join(kitchen.ServicesDir(), "web", "service.toml"), 0o644))
	e := o.AwaitEvent(mark, "dominion/domain/kitchen/event", topics.DomainProblem, "kitchen", "")
	if !strings.Contains(e.Message, "it is not a regular file") {
		t.Errorf("the event says %q", e.Message)
	}
	awaitLiveHeartbeat(o, o.Now(), "kitchen")
	if i := o.Latest().Instance("kitchen", "web"); i.State != topics.Running || !strings.Contains(i.Message, "service.toml") {
		t.Errorf("web is %+v", i)
	}
	home.Journal.Undisturbed(t, "with a service.toml that cannot be read", before, starts)

	t.Log("its directory is away")
	for _, name := range []string{"web", "log"} {
		kitchen.must(os.Rename(filepath.Join(kitchen.ServicesDir(), name), filepath.Join(kitchen.Dir, name)))
	}
	o.Until("it is shown", func(v View) bool { return strings.Contains(v.Instance("kitchen", "log").Message, "runs on") })
	home.Journal.Undisturbed(t, "without its directory", before, starts)
	kitchen.must(os.Remove(filepath.Join(kitchen.Dir, "web", "service.toml")))
	for _, name := range []string{"web", "log"} {
		kitchen.must(os.Rename(filepath.Join(kitchen.Dir, name), filepath.Join(kitchen.ServicesDir(), name)))
	}
	o.Until("nothing is shown any more", func(v View) bool {
		return v.Instance("kitchen", "web").Message == "" && v.Instance("kitchen", "log").Message == ""
	})
	home.Journal.Undisturbed(t, "and back", before, starts)

	if b, err := os.ReadFile(secret); err != nil || string(b) != "password-of-root = 1\n" {
		t.Errorf("the secret is %q, %v", b, err)
	}
	for _, m := range o.Since(Mark{}) {
		if strings.Contains(m.Payload, "password-of-root") {
			t.Errorf("the secret is in %s: %s", m.Topic, m.Payload)
		}
	}
	agents[0].Stop()
}

// attempts is a service that tries what the user of the services may not do: to
// read and change what is the agent's or root's service's, and to end the agent.
const attempts = `may() { "$@" >/dev/null 2>&1 && echo "succeeded: $*"; }
write() { (: >"$1") 2>/dev/null && echo "written: $1"; }
for file in id memory.json command.json ports.json instances/mounter.json logs/mounter/stdout.log data/mounter/secret; do
	may cat $D/$file; write $D/$file
done
for dir in instances data notify; do may ls $D/$dir; done
for file in new data/new notify/new logs/new logs/evil/new logs/evil/stdout.log.1; do write $D/$file; done
may mv $D/logs/evil $D/logs/other
may mv $D/data/evil $D/data/other
may ln -s /etc/shadow $D/logs/evil/stderr.log.1
for pid in $PPID $(pidof domain); do may kill -0 $pid; done
own=$(sed -n 's/^0:://p' /proc/$$/cgroup)
write /sys/fs/cgroup/unified$own/../cgroup.procs
write /sys/fs/cgroup$own/../cgroup.procs
# what it may do to its own log, and what it claims to be, disturbs nobody
chmod 0 $D/logs/evil/stderr.log
ln $D/logs/evil/stderr.log $SERVICE_DATA_DIR/link
env SERVICE_NAME=mounter DOMINION_INSTANCE=forged.r1 setsid sleep 3600 &
echo "it has tried"
wait
`

// What a service tries against the agent and against a service of root.
func TestAServiceMayNotTouchTheAgent(t *testing.T) {
	home := onEmbedded(t)
	kitchen := home.Domain("kitchen")
	kitchen.Install("web")
	kitchen.Write("evil", "service.toml", "command = [\"sh\", \"./run.sh\"]\n")
	kitchen.Write("evil", "run.sh", "D="+kitchen.DataDir()+"\n"+attempts)
	kitchen.Write("mounter", "service.toml", "command = [\"sh\", \"-c\", \"umask 77; echo secret >$SERVICE_DATA_DIR/secret; while sleep 3600; do :; done\"]\n")
	kitchen.Configure(nil, "allow_root = [\"mounter\"]\n")
	home.Configure(service("web", `priority = "required"`, healthHTTP) + service("evil") + service("mounter", `priority = "required"`))
	_, agents, o := home.Up(kitchen)
	o.Until("web and mounter run", func(v View) bool { return v.Healthy("web", 1) && v.Healthy("mounter", 1) })
	web, mounter := o.Latest().Instance("kitchen", "web").PID, o.Latest().Instance("kitchen", "mounter").PID
	if r := home.Ctl("start", "evil"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	log := filepath.Join(kitchen.DataDir(), "logs", "evil", "stdout.log")
	eventually(t, "it has tried", func() bool { b, _ := os.ReadFile(log); return strings.Contains(string(b), "it has tried") })
	if b, err := os.ReadFile(log); err != nil || string(b) != "it has tried\n" {
		t.Errorf("%s%v", b, err)
	}

	t.Log("the next agent knows mounter by the processes of root alone")
	agents[0].Kill()
	kitchen.must(os.Remove(filepath.Join(kitchen.DataDir(), "instances", "mounter.json")))
	mark := o.Now()
	kitchen.Start()
	awaitRejoin(o, mark, "kitchen")
	o.Until("all runs as before", func(v View) bool {
		return v.Healthy("web", 1) && v.Healthy("mounter", 1) && v.Instance("kitchen", "web").PID == web && v.Instance("kitchen", "mounter").PID == mounter
	})
}
