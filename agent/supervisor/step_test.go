package supervisor

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// Each file of testdata is a transcript: lines with ">" are what happens, the
// indented ones below are the effects and the state that follow.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	played := make([]bool, len(table))
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := replay(string(b), played)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(b) {
				t.Errorf("%s is different (go test -update rewrites it):\n%s", file, got)
			}
		})
	}
	for i, r := range table {
		if !played[i] {
			t.Errorf("no transcript plays row %d of the table: %s", i, r.description)
		}
	}
}

// replayer replays a transcript.
type replayer struct {
	in    instance
	now   time.Time
	began time.Time
	out   strings.Builder
	lives int

	played []bool // rows of the table
}

func replay(text string, played []bool) (string, error) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := &replayer{in: instance{Service: "web", Health: topics.UnknownHealth}, now: began, began: began, played: played}
	p.in.Jitter.Seed(1, 2)
	for n, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue // of the last replay
		}
		fmt.Fprintln(&p.out, line)
		order, isOrder := strings.CutPrefix(line, "> ")
		if !isOrder {
			continue
		}
		if err := p.play(order); err != nil {
			return "", fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	return p.out.String(), nil
}

func (p *replayer) play(order string) error {
	word, rest, _ := strings.Cut(order, " ")
	if after, isTime := strings.CutPrefix(word, "+"); isTime {
		d, err := time.ParseDuration(after)
		p.pass(d)
		return err
	}
	switch word {
	case "asleep": // without ticks: the agent stood still
		d, err := time.ParseDuration(rest)
		p.now = p.now.Add(d)
		if err == nil {
			p.step(tick{})
		}
		return err
	case "wanted":
		s, err := parseSpec(p.in.Spec, rest)
		if err != nil {
			return err
		}
		p.step(wanted{s})
	case "refused":
		p.step(refused{topics.Spec{Revision: "bad"}, rest})
	case "unwanted":
		p.step(unwanted{})
	case "restart":
		p.step(restart{})
	case "started":
		p.lives++
		p.step(started{run{
			Token: fmt.Sprint("life", p.lives), PID: 100 * p.lives, Revision: p.in.Spec.Revision, Port: 20000,
			Started: p.now, Command: rest == "command", LeaseEnd: p.leaseEnd(rest), Watchdog: plan{spec: p.in.Spec}.watchdog(),
		}, p.in.Spec})
	case "leased":
		d, err := time.ParseDuration(rest)
		p.step(leased{p.now.Add(d)})
		return err
	case "unleased":
		p.step(unleased{})
	case "unguarded":
		p.step(unguarded{rest})
	case "not-started":
		later, soon := strings.CutPrefix(rest, "soon ")
		why, hung := strings.CutPrefix(later, "hung ")
		p.step(notStarted{why, soon, hung})
	case "exited":
		code, unable := strings.CutSuffix(rest, " unstartable")
		code, left := strings.CutSuffix(code, " left")
		e := Exit{Leftovers: left}
		if n, err := strconv.Atoi(code); err == nil {
			e.Known, e.Code = true, n
		}
		p.step(exited{e.code(), e.String(), e.Leftovers, unable})
	case "check":
		p.step(checked{ok: rest == "ok", message: rest})
	case "notify":
		p.step(parseNotify(strings.ReplaceAll(rest, " ", "\n")))
	case "says", "stored", "missed": // its topic
		p.step(topicMessage{payload: rest, retained: word != "says", gap: word == "missed"})
	case "listening":
		p.step(topicSubscribed{subscribed: true})
	case "deaf":
		p.step(topicSubscribed{problem: rest})
	case "quoted":
		p.step(quoted{strings.Split(rest, ";")})
	case "adopted":
		ev := adopted{
			spec: topics.Spec{Revision: "r1", Restart: topics.RestartPolicy{Policy: topics.RestartAlways, Delay: topics.Seconds(time.Second)}},
			run:  run{Token: "before", PID: 50, Revision: "r1", Started: p.now, Adopted: true}, since: p.now.Add(-time.Hour),
		}
		for _, w := range strings.Fields(rest) {
			switch w {
			case "ready":
				ev.run.Ready = p.now
			case "finished":
				ev.finished = true
			case "stopping":
				ev.stopping = &stopping{thenStopped, "it is no longer wanted"}
			case "restarting":
				ev.stopping = &stopping{thenStart, "a restart was asked for"}
			case "ending":
				ev.stopping = &stopping{thenEnded, "exited with code 1"}
			case "watchdog":
				ev.spec.Health, ev.run.Watchdog = &topics.HealthCheck{Notify: true}, 30*time.Second
			case "mqtt":
				ev.spec.Health = &topics.HealthCheck{MQTT: "home/web", Payload: "online"}
			case "tcp":
				ev.spec.Health = &topics.HealthCheck{TCP: true}
			}
		}
		p.step(ev)
	default:
		return fmt.Errorf("%q is no event", word)
	}
	return nil
}

// leaseEnd reads "for 10s".
func (p *replayer) leaseEnd(rest string) time.Time {
	lease, is := strings.CutPrefix(rest, "for ")
	if d, err := time.ParseDuration(lease); is && err == nil {
		return p.now.Add(d)
	}
	return time.Time{}
}

// pass lets time go by, with a tick whenever one is due.
func (p *replayer) pass(d time.Duration) {
	end := p.now.Add(d)
	for {
		due := p.in.due()
		if due.IsZero() || due.After(end) {
			break
		}
		if due.After(p.now) {
			p.now = due
		}
		p.step(tick{})
		if next := p.in.due(); next.Equal(due) {
			fmt.Fprintln(&p.out, "  and again at once: a tick without an end")
			break
		}
	}
	p.now = end
}

func (p *replayer) step(ev event) {
	in := p.in
	m := transition{instance: &in, now: p.now} // as step does it
	m.run(ev, func(row int) { p.played[row] = true })
	p.in = in
	for _, e := range m.effects {
		switch e := e.(type) {
		case send:
			word := "SIGTERM"
			if e.kill {
				word = "SIGKILL"
			}
			p.print("send %s", word)
		case report:
			p.print("report %s: %s", e.kind, strings.ReplaceAll(e.message, "\n", " | "))
		default:
			p.print("%s", strings.TrimPrefix(fmt.Sprintf("%T", e), "supervisor."))
		}
	}
	line := fmt.Sprintf("%s: %s %s", p.now.Sub(p.began), in.State, in.Health)
	if in.ExitCode != nil {
		line += fmt.Sprintf(", code %d", *in.ExitCode)
	}
	if in.Restarts > 0 {
		line += fmt.Sprintf(", %d restarts", in.Restarts)
	}
	if due := in.due(); !due.IsZero() {
		line += fmt.Sprintf(", next at %s", due.Sub(p.began))
	}
	message := in.Message
	if in.Refused != "" {
		message = in.Refused
	}
	if message != "" {
		line += " — " + strings.ReplaceAll(message, "\n", " | ")
	}
	p.print("%s", line)
}

func (p *replayer) print(format string, args ...any) {
	fmt.Fprintf(&p.out, "  "+format+"\n", args...)
}

// parseSpec reads key=value words over the spec before.
func parseSpec(s topics.Spec, text string) (topics.Spec, error) {
	if s.Revision == "" {
		s = topics.Spec{
			Revision: "r1", Restart: topics.RestartPolicy{Policy: topics.RestartAlways, Delay: topics.Seconds(time.Second), MaxDelay: topics.Seconds(time.Minute)},
			StartTimeout: topics.Seconds(2 * time.Minute), StopTimeout: topics.Seconds(10 * time.Second),
		}
	}
	for _, w := range strings.Fields(text) {
		key, value, _ := strings.Cut(w, "=")
		d, err := time.ParseDuration(value)
		seconds := topics.Seconds(d)
		switch key {
		case "revision":
			s.Revision, err = value, nil
		case "policy":
			s.Restart.Policy, err = value, nil
		case "delay":
			s.Restart.Delay = seconds
		case "max":
			s.Restart.MaxDelay = seconds
		case "start":
			s.StartTimeout = seconds
		case "stop":
			s.StopTimeout = seconds
		case "watchdog":
			s.Health = &topics.HealthCheck{Notify: true, Watchdog: seconds}
		case "exclusive":
			s.Exclusive, err = true, nil
		case "check":
			err = nil
			s.Health = map[string]*topics.HealthCheck{
				"none": nil, "http": {HTTP: "/health"}, "tcp": {TCP: true}, "notify": {Notify: true},
				"mqtt": {MQTT: "home/web", Payload: "online"},
			}[value]
		default:
			return s, fmt.Errorf("%q is no part of a spec", key)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}
