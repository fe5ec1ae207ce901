package workqueue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// history notes what was done and what failed, in order.
type history []string

func (h *history) note(format string, values ...any) { *h = append(*h, fmt.Sprintf(format, values...)) }

// work returns work of a domain that is noted when it is done; err is what is wrong with it.
func (h *history) work(domain, name string, err error) Work {
	return Work{
		Domain: domain, Source: domain, Size: 1,
		Run:    func() (func(time.Time), error) { return func(time.Time) { h.note("%s %s", domain, name) }, err },
		Failed: func(err error, _ time.Time) { h.note("%s %s: %v", domain, name, err) },
	}
}

// The work of one domain is done in its order, one after the other; that of several domains
// at once, as much as is allowed, and a domain with much work does not keep others waiting.
func TestOrder(t *testing.T) {
	var h history
	now := time.Now()
	q := New(2)
	for _, w := range []Work{h.work("a", "1", nil), h.work("a", "2", nil), h.work("a", "3", nil), h.work("b", "1", nil), h.work("c", "1", nil)} {
		if err := q.Add(w, now); err != nil {
			t.Fatal(err)
		}
	}
	var running []func() Result
	for {
		for next := q.Take(); next != nil; next = q.Take() {
			running = append(running, next)
		}
		if len(running) == 0 {
			break
		}
		if len(running) > 2 {
			t.Fatalf("%d at once", len(running))
		}
		last := running[len(running)-1] // the later one is done first
		running = running[:len(running)-1]
		q.Done(last(), now)
	}
	if got := strings.Join(h, ", "); got != "b 1, c 1, a 1, a 2, a 3" {
		t.Errorf("done: %s", got)
	}
	if len(q.domains) != 0 || q.bytes != 0 || q.running != 0 {
		t.Errorf("left: %+v", q)
	}
}

// What waits is bounded, except the hub's own work; who sent wrong signatures is rate
// limited, and others are not.
func TestBounds(t *testing.T) {
	var h history
	now := time.Now()
	q := New(1)
	for n := range maxOfDomain {
		if err := q.Add(h.work("a", fmt.Sprint(n), nil), now); err != nil {
			t.Fatal(n, err)
		}
	}
	if err := q.Add(h.work("a", "more", nil), now); !errors.Is(err, errFull) {
		t.Errorf("too many of one domain: %v", err)
	}
	large := h.work("b", "large", nil)
	if large.Size = maxBytes; q.Add(large, now) == nil {
		t.Error("too many bytes wait")
	}
	own := h.work("a", "own", nil)
	if own.Source = ""; q.Add(own, now) != nil {
		t.Error("the hub's own work is refused")
	}
	q = New(1)
	refused := 0
	for range 100 {
		if err := q.Add(h.work("a", "x", errors.New("wrong")), now); errors.Is(err, errMany) {
			refused++
			continue
		}
		q.Done(q.Take()(), now)
	}
	if refused < 40 || refused > 60 {
		t.Errorf("%d of 100 wrong ones are refused, and not about 50", refused)
	}
	if err := q.Add(h.work("b", "x", nil), now); err != nil {
		t.Errorf("another source: %v", err)
	}
}

// Work of a key that waits or is being done is not added again: a request that is repeated until
// it is answered is done once.
func TestKeys(t *testing.T) {
	var h history
	now := time.Now()
	q := New(1)
	add := func(domain, name, key string) {
		w := h.work(domain, name, nil)
		w.Key = key
		if err := q.Add(w, now); err != nil {
			t.Error(err)
		}
	}
	add("a", "1", "join")
	running := q.Take()
	add("a", "2", "join")  // is being done
	add("a", "3", "other") // waits
	add("a", "4", "other")
	add("b", "5", "other")
	for running != nil {
		q.Done(running(), now)
		running = q.Take()
	}
	add("a", "6", "join")
	q.Done(q.Take()(), now)
	if got := strings.Join(h, ", "); got != "a 1, b 5, a 3, a 6" {
		t.Errorf("done: %s", got)
	}
}

// Where much waits, work of several domains is run in one go; that of each keeps its order.
func TestBatches(t *testing.T) {
	var h history
	now := time.Now()
	q := New(2)
	for n := range 2 {
		for domain := range 100 {
			if err := q.Add(h.work(fmt.Sprint(domain), fmt.Sprint(n), nil), now); err != nil {
				t.Fatal(err)
			}
		}
	}
	rounds := 0
	for next := q.Take(); next != nil; next = q.Take() {
		q.Done(next(), now)
		rounds++
	}
	if len(h) != 200 || rounds > 40 || len(q.domains) != 0 || q.bytes != 0 {
		t.Errorf("%d done in %d rounds; left %d domains, %d bytes", len(h), rounds, len(q.domains), q.bytes)
	}
	for domain := range 100 {
		if slices.Index(h, fmt.Sprint(domain, " 0")) > slices.Index(h, fmt.Sprint(domain, " 1")) {
			t.Errorf("the order of domain %d", domain)
		}
	}
}
