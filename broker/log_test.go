package broker

import (
	"fmt"
	"testing"
	"time"
)

func TestRefusalsAreNotToldForEver(t *testing.T) {
	var r refusals
	at := time.Now()
	count := func(n int, remote, why string) (told int) {
		for i := range n {
			at = at.Add(time.Second)
			if r.tell(fmt.Sprintf("%s:%d", remote, 1000+i), why, at) {
				told++
			}
		}
		return told
	}
	if n := count(100, "10.0.0.1", "password"); n != refusalsTold {
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
		r.tell(fmt.Sprintf("10.1.%d.%d:1", i/256, i%256), "password", at)
	}
	if len(r.told) > refusalsHosts {
		t.Errorf("remembers %d hosts", len(r.told))
	}
}
