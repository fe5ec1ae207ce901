package broker_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/access"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// probeClient is a client of MQTT 5 within a bubble, by hand: it keeps what it is
// told, and what it was given as "topic payload".
type probeClient struct {
	t    *testing.T
	c    net.Conn
	mu   sync.Mutex
	code map[byte]byte // the last reason code by packet type
	got  []string
	over bool
}

// connectOptions is what a probe connects with.
type connectOptions struct {
	id, user, will string // will: topic
	keep, vouched  bool   // vouched: by our own program, as a bridge is
}

func connectProbe(t *testing.T, b *broker.Broker, h connectOptions) *probeClient {
	t.Helper()
	ours, theirs := net.Pipe()
	p := &probeClient{t: t, c: ours, code: make(map[byte]byte)}
	connect := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: !h.keep, ClientIdentifier: h.id},
	}
	if h.keep {
		connect.Properties.SessionExpiryInterval, connect.Properties.SessionExpiryIntervalFlag = 3600, true
	}
	if h.will != "" {
		connect.Connect.WillFlag, connect.Connect.WillTopic, connect.Connect.WillPayload, connect.Connect.WillQos = true, h.will, []byte("will"), 1
	}
	if h.vouched {
		b.ServeAs(theirs, h.user)
	} else {
		b.Serve(theirs)
		if h.user != "" {
			connect.Connect.UsernameFlag, connect.Connect.Username = true, []byte(h.user)
			connect.Connect.PasswordFlag, connect.Connect.Password = true, []byte("p")
		}
	}
	go p.read()
	p.send(connect)
	return p
}

func (p *probeClient) send(pk packets.Packet) {
	p.t.Helper()
	pk.ProtocolVersion = 5
	_, _ = p.c.Write(encode(p.t, pk))
	synctest.Wait()
}

func (p *probeClient) read() {
	r := bufio.NewReader(p.c)
	for {
		var pk packets.Packet
		first, err := r.ReadByte()
		if err != nil || pk.FixedHeader.Decode(first) != nil {
			break
		}
		n, _, err := packets.DecodeLength(r)
		if err != nil {
			break
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			break
		}
		p.mu.Lock()
		switch kind := pk.FixedHeader.Type; kind {
		case packets.Publish:
			pk.ProtocolVersion = 5
			if pk.PublishDecode(body) == nil {
				p.got = append(p.got, pk.TopicName+" "+string(pk.Payload))
				if pk.FixedHeader.Qos == 1 {
					_, _ = p.c.Write([]byte{packets.Puback << 4, 2, byte(pk.PacketID >> 8), byte(pk.PacketID)})
				}
			}
		case packets.Connack:
			p.code[kind] = body[1]
		case packets.Suback:
			p.code[kind] = body[len(body)-1]
		case packets.Puback:
			p.code[kind] = 0
			if len(body) > 2 {
				p.code[kind] = body[2]
			}
		}
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
}

// lastReason returns the last reason code of a kind of packet, which must have come.
func (p *probeClient) lastReason(kind byte) byte {
	p.t.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	code, there := p.code[kind]
	if !there {
		p.t.Fatalf("no packet of type %d came", kind)
	}
	delete(p.code, kind)
	return code
}

func (p *probeClient) given(message string) bool {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.got, message)
}

func (p *probeClient) ended() bool {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// publish reports whether the broker took a message.
func (p *probeClient) publish(topic, payload string, retain bool) bool {
	p.t.Helper()
	p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: retain}, PacketID: 7, TopicName: topic, Payload: []byte(payload)})
	return p.lastReason(packets.Puback) < 0x80
}

// subscribe reports whether the broker took a subscription.
func (p *probeClient) subscribe(filter string) bool {
	p.t.Helper()
	p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 8, Filters: packets.Subscriptions{{Filter: filter, Qos: 1}}})
	return p.lastReason(packets.Suback) < 0x80
}

func (p *probeClient) leave() {
	_ = p.c.Close() // without a word: a will is sent
	synctest.Wait()
}

// cells calls each for every cell of docs/access.md, which is generated from
// the table that the policy is tested with.
func cells(t *testing.T, each func(topic, role string, isFilter bool, may string)) {
	t.Helper()
	text, err := os.ReadFile("../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	isFilter, n := false, 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "## Filters") {
			isFilter = true
		}
		cell := strings.Split(strings.TrimSpace(line), "|")
		if len(cell) != 7 || !strings.HasPrefix(cell[1], " `") {
			continue
		}
		for i, role := range []string{broker.RoleAdmin, broker.RoleReader, broker.RoleDevice, broker.RoleDomain} {
			each(strings.Trim(cell[1], " `"), role, isFilter, cell[i+2])
			n++
		}
	}
	if n < 250 {
		t.Errorf("%d cells in docs/access.md", n)
	}
}

// What docs/access.md says is what happens: to a publish, a subscription, a
// delivery, a will when it is made and when it is sent, a replay, a session
// that is resumed, and a bridge.
func TestTheTableOnTheWire(t *testing.T) {
	password := write(t, "p", "p\n")
	synctest.Test(t, func(t *testing.T) {
		as := func(role string) []broker.User {
			return []broker.User{{Name: "pi-kitchen", Role: role, PasswordFile: password}, {Name: "root", Role: broker.RoleAdmin, PasswordFile: password}}
		}
		b := start(t, broker.Config{Users: as(broker.RoleAdmin)})
		is := func(role string) {
			if err := b.Reload(as(role), false, nil); err != nil {
				t.Fatal(err)
			}
		}
		root := connectProbe(t, b, connectOptions{id: "root", user: "root"})
		root.subscribe("#")
		root.subscribe("$SYS/#")
		say := func(topic, payload string, retain bool) { // nobody else may, at the broker's own topics
			b.Publish(topics.Message{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain})
			synctest.Wait()
		}
		n := 0
		cells(t, func(topic, role string, isFilter bool, words string) {
			// Private requests are not for plain connections, whatever the role is.
			verb, isRequest := strings.CutPrefix(topic, "dominion/request/")
			private := isRequest && topics.IsPrivate(verb)
			may := func(word string) bool {
				return strings.Contains(words, word) && !(private && word == "publish")
			}
			check := func(what string, got, want bool) {
				t.Helper()
				if got != want {
					t.Errorf("%s, %s %s: %v on the wire, the table says %v", role, what, topic, got, want)
				}
			}
			n++
			mark := func(what string) string { return fmt.Sprintf("%s %d", what, n) }
			id := fmt.Sprintf("c%d", n)
			is(role)
			for _, h := range []connectOptions{{id: id, user: "pi-kitchen"}, {id: id, user: "pi-kitchen", vouched: true}} {
				p := connectProbe(t, b, h)
				check("subscribe to", p.subscribe(topic), may("subscribe"))
				if !isFilter {
					check("publish to", p.publish(topic, mark("say"), false), may("publish"))
					check("be heard at", root.given(topic+" "+mark("say")), may("publish"))
					say(topic, mark("told"), false)
					check("be given", p.given(topic+" "+mark("told")), may("subscribe") && may("read"))
				}
				p.leave()
			}
			if isFilter {
				return
			}
			say(topic, mark("kept"), true)
			p := connectProbe(t, b, connectOptions{id: id, user: "pi-kitchen"})
			p.subscribe(topic)
			check("be replayed", p.given(topic+" "+mark("kept")), may("subscribe") && may("read"))
			p.leave()
			say(topic, "", true)

			root.mu.Lock()
			root.got = nil
			root.mu.Unlock()
			p = connectProbe(t, b, connectOptions{id: id, user: "pi-kitchen", will: topic})
			p.lastReason(packets.Connack)
			p.leave()
			check("leave a will to", root.given(topic+" will"), may("publish"))
			// what was allowed once: a will, a subscription, what waits in a session
			is(broker.RoleAdmin)
			p = connectProbe(t, b, connectOptions{id: id, user: "pi-kitchen", will: topic, keep: true})
			p.subscribe(topic)
			root.mu.Lock()
			root.got = nil
			root.mu.Unlock()
			is(role)
			p.leave()
			check("have a will sent to", root.given(topic+" will"), may("publish"))
			is(broker.RoleAdmin)
			say(topic, mark("waits"), false)
			is(role)
			p = connectProbe(t, b, connectOptions{id: id, user: "pi-kitchen", keep: true})
			say(topic, mark("resumed"), false)
			check("be given what waited of", p.given(topic+" "+mark("waits")), may("read"))
			check("be given by a session resumed", p.given(topic+" "+mark("resumed")), may("subscribe") && may("read"))
			p.leave()
		})
		root.leave()
	})
}

// What dominionctl access says is what happens, whatever the rules.
func TestAccessAgreesWithTheBroker(t *testing.T) {
	password := write(t, "p", "p\n")
	seed := rand.Uint64()
	var told, withheld, refused int
	defer func() {
		t.Logf("%d deliveries, %d withheld from who subscribed, %d subscriptions refused", told, withheld, refused)
		if min(told, withheld, refused) < 20 {
			t.Error("the cases are not such as to tell anything")
		}
	}()
	for round := range 40 {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(round)))
			pick := func(of ...string) string { return of[r.IntN(len(of))] }
			levels := []string{"dominion", "domain", "ada", "pi", "c1", "service", "web", "set", "services", "request", "status", "user", "homeassistant", "a", "", "hub", "response"}
			topic := func() string {
				var all []string
				for range 1 + r.IntN(4) {
					all = append(all, pick(levels...))
				}
				if r.IntN(2) == 0 {
					all = append([]string{"dominion"}, all...)
				}
				s := strings.Join(all, "/")
				if s == "" || s == "dominion/request/user" { // a private request: see TestPrivateRequest
					return "a"
				}
				return s
			}
			filter := func(more ...string) string {
				all := strings.Split(topic(), "/")
				for i := range all {
					if r.IntN(3) == 0 {
						all[i] = pick(append(more, "+")...)
					}
				}
				if r.IntN(3) == 0 {
					all = append(all, "#")
				}
				if s := strings.Join(all, "/"); s != "" {
					return s
				}
				return "#"
			}
			users := []broker.User{{Name: "root", Role: broker.RoleAdmin, PasswordFile: password}}
			for _, name := range []string{"ada", "pi", "web"} {
				users = append(users, broker.User{Name: name, Role: pick(access.Roles()...), PasswordFile: password})
			}
			var rules []access.Rule
			for range r.IntN(8) {
				rule := access.Rule{Deny: r.IntN(2) == 0}
				for range 1 + r.IntN(2) {
					rule.Topics = append(rule.Topics, filter("%u", "%c", "x%u-%c"))
				}
				rule.Actions = [][]access.Action{{access.Publish}, {access.Subscribe}, {access.Publish, access.Subscribe}}[r.IntN(3)]
				switch r.IntN(3) {
				case 0:
					rule.Users = []string{pick("ada", "pi", "web")}
				case 1:
					rule.Roles = []string{pick(access.RoleReader, access.RoleDevice, access.RoleDomain)}
				}
				rules = append(rules, rule)
			}
			b := start(t, broker.Config{Users: users, Rules: rules})
			root := connectProbe(t, b, connectOptions{id: "root", user: "root"})
			for i := range 60 {
				user, id := pick("ada", "pi", "web"), ""
				id = user + pick("1", "+", "-2")
				says := func(a access.Action, topic string) bool {
					_, d, err := b.Decide(user, id, a, topic)
					if err != nil {
						t.Fatal(err)
					}
					return d.Allowed
				}
				wrong := func(what, topic string, got bool) {
					t.Errorf("seed %d, round %d: %s (%s) %s %s: %v on the wire; rules %+v, users %+v", seed, round, user, id, what, topic, got, rules, users)
				}
				p := connectProbe(t, b, connectOptions{id: id, user: user})
				at, wish := topic(), filter()
				if r.IntN(2) == 0 {
					wish = pick("#", "+/#", "+/+/+/#", "dominion/#", "dominion/domain/+/#", "$share/g/#")
				}
				if got := p.publish(at, "x", false); got != says(access.Publish, at) {
					wrong("publish", at, got)
				}
				got := p.subscribe(wish)
				if got != says(access.Subscribe, wish) {
					wrong("subscribe", wish, got)
				}
				// a topic that the filter matches
				parts := strings.Split(access.Unshared(wish), "/")
				for i := range parts {
					switch {
					case parts[i] == "#":
						parts[i] = topic()
					case parts[i] == "+" && i == 0:
						parts[i] = pick("dominion", "a", "homeassistant")
					case parts[i] == "+":
						parts[i] = pick(levels...)
					}
				}
				reached := strings.Join(parts, "/")
				if reached == "" {
					reached = "a"
				}
				mark := fmt.Sprint("m", i)
				root.publish(reached, mark, false)
				if given := p.given(reached + " " + mark); given != (got && says(access.Deliver, reached) && reached != "dominion/request/user") { // which nobody gets
					wrong("deliver", reached, given)
				}
				switch says := says(access.Deliver, reached); {
				case !got:
					refused++
				case says:
					told++
				default:
					withheld++
				}
				p.leave()
			}
			root.leave()
		})
	}
}

// Each is a way round that somebody may try who is in with rights of his own.
func TestWaysRound(t *testing.T) {
	password := write(t, "p", "p\n")
	synctest.Test(t, func(t *testing.T) {
		all := []broker.User{
			{Name: "root", Role: broker.RoleAdmin, PasswordFile: password},
			{Name: "tv", Role: broker.RoleDevice, PasswordFile: password},
			{Name: "lamp", Role: broker.RoleDevice, PasswordFile: password},
			{Name: "pi", Role: broker.RoleDomain, PasswordFile: password},
		}
		b := start(t, broker.Config{Users: all})
		root := connectProbe(t, b, connectOptions{id: "root", user: "root"})
		root.subscribe("#")
		tv := connectProbe(t, b, connectOptions{id: "tv", user: "tv"})
		for _, topic := range []string{
			"dominion/domain/pi/services/set", "dominion/domain/pi/response", "dominion/response/join/pi", "dominion/domain/pi/availability",
			"dominion/request/user", "dominion/request/join", "dominion/hub/availability",
			"homeassistant/device/dominion_0123abcd_hub/config", "homeassistant/status", "$SYS/broker/uptime",
		} {
			if tv.publish(topic, "forged", false) || tv.publish(topic, "forged", true) || root.given(topic+" forged") {
				t.Errorf("a device spoke at %s", topic)
			}
		}

		// a topic alias stands for a topic, and its use is asked about like that
		alias := func(topic string) bool {
			tv.send(packets.Packet{
				FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 9, TopicName: topic, Payload: []byte("alias"),
				Properties: packets.Properties{TopicAlias: 1, TopicAliasFlag: true},
			})
			return tv.lastReason(packets.Puback) < 0x80
		}
		if alias("dominion/service/web/set") || alias("") || root.given("dominion/service/web/set alias") {
			t.Error("an alias of what is forbidden was taken")
		}
		if !alias("cmnd/x") || !alias("") {
			t.Error("an alias of what is allowed was refused")
		}
		if err := b.Reload(all, false, []access.Rule{{Users: []string{"tv"}, Deny: true, Actions: []access.Action{access.Publish}, Topics: []string{"cmnd/#"}}}); err != nil {
			t.Fatal(err)
		}
		if alias("") {
			t.Error("an alias outlives the right to its topic")
		}

		// wildcards and shared subscriptions read nothing that their user may not
		for _, filter := range []string{"#", "+/+/+/+/#", "$share/g/#", "$share/g/+/domain/+/services/set"} {
			tv.subscribe(filter)
		}
		b.Publish(topics.Message{Topic: "dominion/domain/pi/services/set", Payload: []byte("secret"), QoS: 1, Retain: true})
		if tv.given("dominion/domain/pi/services/set secret") {
			t.Error("a device read a start command")
		}

		// names that mean something elsewhere
		for _, id := range []string{"+", "pi/services", "%u"} {
			p := connectProbe(t, b, connectOptions{id: id, user: "lamp"})
			if p.subscribe("dominion/domain/" + id + "/set") {
				t.Errorf("the client id %s opens something", id)
			}
			p.leave()
		}
		for _, user := range []string{"TV", "tv ", " tv", "ｔv", "tv\u200b", "root/", "#", "+"} {
			if p := connectProbe(t, b, connectOptions{id: "odd", user: user}); p.lastReason(packets.Connack) < 0x80 {
				t.Errorf("the user %q got in", user)
			}
		}

		// another's client id: neither the connection nor the session
		kept := connectProbe(t, b, connectOptions{id: "kept", user: "lamp", keep: true})
		kept.subscribe("for/lamp")
		if thief := connectProbe(t, b, connectOptions{id: "kept", user: "tv", keep: true}); thief.lastReason(packets.Connack) < 0x80 || kept.ended() {
			t.Error("a client id was stolen")
		}
		kept.leave()
		root.publish("for/lamp", "letter", false)
		if thief := connectProbe(t, b, connectOptions{id: "kept", user: "tv", keep: true}); thief.lastReason(packets.Connack) < 0x80 || thief.given("for/lamp letter") {
			t.Error("a session was stolen")
		}

		// a user that is removed while connected is out, without a last word
		last := connectProbe(t, b, connectOptions{id: "last", user: "lamp", will: "last/words"})
		if err := b.Reload(slices.Delete(slices.Clone(all), 2, 3), false, nil); err != nil {
			t.Fatal(err)
		}
		last.leave()
		if root.given("last/words will") {
			t.Error("a user that is removed speaks by its will")
		}
		root.leave()
		tv.leave()
	})
}

// bcrypt looks at 72 bytes: a password that only begins so is another one.
func TestPasswordsLongerThanBcrypt(t *testing.T) {
	long := strings.Repeat("x", 72)
	b := start(t, broker.Config{Users: []broker.User{{Name: "ada", PasswordHash: hashOf(t, long), Role: broker.RoleDevice}}})
	if err := tryConnect(t, b, "c", "ada", long+"y"); err == "" {
		t.Error("the beginning of a password is enough")
	}
	if err := tryConnect(t, b, "c", "ada", long); err != "" {
		t.Error(err)
	}
	if err := b.AddUser(broker.User{Name: "eve", Role: broker.RoleDevice, PasswordHash: "$2a$31$" + hashOf(t, "x")[7:]}); err == nil {
		t.Error("a hash that takes an hour is taken")
	}
}

// A listener that others reach takes nobody without a user, whatever its kind.
func TestDeniedByDefaultOnEveryListener(t *testing.T) {
	cert, key := certificate(t)
	for _, at := range []struct {
		host string
		in   bool
	}{{"127.0.0.1", true}, {"0.0.0.0", false}, {"[::]", false}} {
		b, urls := listen(t, broker.Config{
			Listen: at.host + ":0", ListenTLS: at.host + ":0", ListenWS: at.host + ":0", ListenWSS: at.host + ":0",
			CertFile: cert, KeyFile: key,
		})
		if len(urls) != 4 {
			t.Fatal(urls)
		}
		for _, l := range b.Listeners() {
			if b.LetsInAnybody(l.Scheme) != at.in {
				t.Errorf("%s at %s takes everybody: %v", l.Scheme, at.host, !at.in)
			}
		}
	}
}

// Many guesses at once are slowed down like one after the other.
func TestGuessingAtOnce(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("a"), 8) // long enough that they meet
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, broker.Config{Users: []broker.User{{Name: "ada", PasswordHash: string(hash), Role: broker.RoleAdmin}}})
	var looked sync.WaitGroup
	answers := make(chan error, 100)
	for i := range cap(answers) {
		looked.Go(func() {
			o := client.Options{URL: "mqtt://pipe", ClientID: fmt.Sprint("c", i), User: "ada", Password: fmt.Sprint("guess", i), Timeout: 20 * time.Second, Dial: pipeFrom(b, "192.0.2.66")}
			_, err := client.Connect(t.Context(), o)
			answers <- err
		})
	}
	looked.Wait()
	close(answers)
	wrong := 0
	for err := range answers {
		if err == nil {
			t.Error("a guess was right")
		} else if strings.Contains(err.Error(), "refused user or password") {
			wrong++
		}
	}
	if wrong > 30 { // ten, those in work, and what a slow machine's seconds let in
		t.Errorf("%d of 100 guesses at once were looked at", wrong)
	}
}
