package broker

import (
	"fmt"
	"testing"
	"time"
)

func TestRefusedPublishIsLoggedOnce(t *testing.T) {
	var r logLimiter
	at := time.Now()
	told := func(remote, user, topic string) bool {
		at = at.Add(time.Second)
		return r.allowTopic(remote, user, topic, at)
	}
	if !told("10.0.0.1:1", "dash", "a") || told("10.0.0.1:2", "dash", "a") {
		t.Error("want it told once for a topic")
	}
	if !told("10.0.0.1:1", "dash", "b") || !told("10.0.0.1:1", "other", "a") || !told("10.0.0.2:1", "dash", "a") {
		t.Error("another topic, user or host was not told")
	}
	n := 0
	for i := range 10_000 { // of ever new topics: two hours and three quarters
		if told("10.0.0.3:1", "dash", fmt.Sprint(i)) {
			n++
		}
	}
	if n < 10 || n > 30 {
		t.Errorf("told %d of 10,000 topics, want five and one in ten minutes", n)
	}
	if len(r.entries) > 2*maxLogKeys {
		t.Errorf("remembers %d", len(r.entries))
	}
}

func TestRefusalsAreNotLoggedForEver(t *testing.T) {
	var r logLimiter
	at := time.Now()
	count := func(n int, remote, why string) (told int) {
		for i := range n {
			at = at.Add(time.Second)
			if r.allow(fmt.Sprintf("%s:%d", remote, 1000+i), why, at) {
				told++
			}
		}
		return told
	}
	if n := count(100, "10.0.0.1", "password"); n != logBurst {
		t.Errorf("told %d of 100 in 100 s", n)
	}
	if n := count(1, "10.0.0.1", "will"); n != 1 {
		t.Error("another reason was not told")
	}
	if n := count(1, "10.0.0.2", "password"); n != 1 {
		t.Error("another host was not told")
	}
	if n := count(3600, "10.0.0.1", "password"); n != 6 {
		t.Errorf("told %d in an hour, want one in ten minutes", n)
	}
	for i := range 10_000 {
		r.allow(fmt.Sprintf("10.1.%d.%d:1", i/256, i%256), "password", at)
	}
	if len(r.entries) > maxLogKeys {
		t.Errorf("remembers %d hosts", len(r.entries))
	}
}
