package zeroconf

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// What an answer says of services, and what it does not say in full.
func TestInstancesOfAnAnswer(t *testing.T) {
	const name = "_dominion._tcp.local."
	whole := []string{
		name + " 120 IN PTR home." + name,
		"home." + name + " 120 IN SRV 0 0 1883 dominion-home.local.",
		"home." + name + ` 120 IN TXT "id=x" "name=home"`,
		"dominion-home.local. 120 IN A 10.0.0.7",
	}
	for what, c := range map[string]struct {
		records []string
		want    string
	}{
		"whole":                {whole, "[{home 1883 [10.0.0.7] map[id:x name:home]}]"},
		"without an address":   {whole[:3], "[]"},
		"without a port":       {[]string{whole[0], whole[2], whole[3]}, "[]"},
		"a goodbye":            {append([]string{name + " 0 IN PTR home." + name}, whole[1:]...), "[]"},
		"another type":         {append([]string{"_mqtt._tcp.local. 120 IN PTR home._mqtt._tcp.local."}, whole[1:]...), "[]"},
		"a name with escapes":  {[]string{name + ` 120 IN PTR a\027b.` + name, `a\027b.` + name + " 120 IN SRV 0 0 1883 dominion-home.local.", whole[3]}, "[]"},
		"a name that is a dot": {[]string{name + " 120 IN PTR ."}, "[]"},
	} {
		answer := new(dns.Msg)
		for _, text := range c.records {
			r, err := dns.NewRR(text)
			if err != nil {
				t.Fatal(err)
			}
			answer.Answer = append(answer.Answer, r)
		}
		if got := fmt.Sprint(instances(answer, name, "eth0")); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
}

func TestWhatConflicts(t *testing.T) {
	own := []Service{
		{Instance: "home", Port: 1883, Text: map[string]string{"id": "x"}},
		{Instance: "home-tls", Port: 8883, Text: map[string]string{"id": "x"}},
	}
	here := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1")}
	found := func(instance string, port int, id, address string) Found {
		return Found{Instance: instance, Port: port, Text: map[string]string{"id": id}, Addresses: []netip.Addr{netip.MustParseAddr(address)}}
	}
	for _, c := range []struct {
		found Found
		want  bool
	}{
		{found("home", 1883, "x", "10.0.0.1"), false},
		{found("home", 1883, "x", "fe80::1%eth0"), false},
		{found("home-tls", 8883, "x", "10.0.0.1"), false},
		{found("home", 1883, "x", "10.0.0.2"), true},   // a copy on another machine
		{found("home", 1884, "x", "10.0.0.1"), true},   // on the same one
		{found("home", 1883, "y", "10.0.0.2"), true},   // another dominion of the same name
		{found("garden", 1883, "x", "10.0.0.2"), true}, // a copy that was renamed
		{found("garden", 1883, "y", "10.0.0.2"), false},
	} {
		if got := conflicting(own, c.found) && !isOwn(own, c.found, here); got != c.want {
			t.Errorf("%+v conflicts: %v", c.found, got)
		}
	}
	if conflicting([]Service{{Instance: "home"}}, Found{Instance: "garden"}) {
		t.Error("two services without an id have the same one")
	}
}

// A conflict is told once, over one answer that is lost, and is over after two; the
// network is asked about once a minute, and more often while there is one.
func TestConflictsOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := Found{Instance: "home", Port: 1883, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7")}, Text: map[string]string{"id": "x"}}
		answers := [][]Found{nil, {other}, {other}, nil, {other}, nil, nil, nil}
		var story []string
		ctx, cancel := context.WithCancel(t.Context())
		asked := time.Now()
		ask := func() []Found {
			n := len(answers)
			if n == 0 {
				cancel()
				return nil
			}
			wait := time.Since(asked)
			asked = time.Now()
			const least, most = 7 * time.Second / 8, 9 * time.Second / 8
			want := time.Duration(60)
			if 2 <= n && n <= 6 { // there is one
				want = 15
			}
			if n < 8 && (wait < want*least || wait > want*most) || n == 8 && wait != conflictFirst {
				t.Errorf("with %d answers to come it asked after %v, want about %d s", n, wait, want)
			}
			a := answers[0]
			answers = answers[1:]
			return a
		}
		watchConflicts(ctx, ask, func(found []Found) { story = append(story, fmt.Sprintf("%d left: %d", len(answers), len(found))) })
		if got, want := fmt.Sprint(story), "[6 left: 1 1 left: 0]"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	})
}

// Two machines that announce the same each find the other one, and not
// themselves, on all the networks that they share.
func TestConflictOfTwoMachines(t *testing.T) {
	h := newHome(t)
	h.up()
	h.run("hub", "announce")
	h.run("a", "announce")
	for at, other := range map[string]string{"hub": "10.1.0.2", "a": "10.1.0.1"} {
		_, found := h.run(at, "conflicts")
		h.await(found, `[{"Instance":"home","Port":1883,"Addresses":["`+other+`"],"Text":{"id":"x","tls":"0"}}]`)
	}
}
