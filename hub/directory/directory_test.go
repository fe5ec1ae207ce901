package directory_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/hub/directory"
	"github.com/jmbarzee/dominion/topics"
)

// row returns a running and healthy instance of lamp; change may change it.
func row(domain string, order uint64, change func(r *directory.Row)) directory.Row {
	r := directory.Row{
		Domain: domain, Service: "lamp", State: topics.Running, Health: topics.Healthy,
		Version: "1.0.0", Address: "10.0.0." + fmt.Sprint(order), Port: 80, Order: order,
	}
	if change != nil {
		change(&r)
	}
	return r
}

func newDirectory(rows ...directory.Row) *directory.Directory {
	d := directory.New()
	for _, r := range rows {
		d.SetDomain(r.Domain, []directory.Row{r})
	}
	return d
}

// names returns the domains of endpoints.
func names(all []topics.Endpoint) string {
	var domains []string
	for _, e := range all {
		domains = append(domains, e.Domain)
	}
	return strings.Join(domains, " ")
}

func unhealthy(r *directory.Row) { r.Health = topics.Unhealthy }

// SetDomain returns the services of which something changed, and no other.
func TestSetDomain(t *testing.T) {
	web := func(r directory.Row) directory.Row { r.Service = "web"; return r }
	d := directory.New()
	for _, c := range []struct {
		name   string
		domain string
		rows   []directory.Row
		want   []string
	}{
		{"new", "a", []directory.Row{row("a", 1, nil), web(row("a", 1, nil))}, []string{"lamp", "web"}},
		{"the same", "a", []directory.Row{row("a", 1, nil), web(row("a", 1, nil))}, nil},
		{"in another order", "a", []directory.Row{web(row("a", 1, nil)), row("a", 1, nil)}, nil},
		{"another domain", "b", []directory.Row{row("b", 2, nil)}, []string{"lamp"}},
		{"one is unhealthy", "a", []directory.Row{row("a", 1, unhealthy), web(row("a", 1, nil))}, []string{"lamp"}},
		{"one is gone", "a", []directory.Row{row("a", 1, unhealthy)}, []string{"web"}},
		{"all are gone", "a", nil, []string{"lamp"}},
		{"nothing is there", "a", nil, nil},
	} {
		got := d.SetDomain(c.domain, c.rows)
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: changed %q, want %q", c.name, got, c.want)
		}
	}
	if rows := d.Rows("lamp"); len(rows) != 1 || rows[0].Domain != "b" {
		t.Errorf("rows of lamp: %v", rows)
	}
	if len(d.Rows("web")) > 0 || !slices.Equal(d.Domains(), []string{"b"}) || !slices.Equal(d.Services(), []string{"lamp"}) {
		t.Errorf("web %v, domains %q, services %q", d.Rows("web"), d.Domains(), d.Services())
	}
}

// Rows of a service are sorted by domain, whatever came first.
func TestRowsAreSorted(t *testing.T) {
	d := newDirectory(row("c", 1, nil), row("a", 2, nil), row("b", 3, nil))
	var got []string
	for _, r := range d.Rows("lamp") {
		got = append(got, r.Domain)
	}
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("rows of %q", got)
	}
}

// Healthy endpoints come first, and of these the one that was reported running first; the
// preferred one is the first, unless only others are healthy.
func TestUsable(t *testing.T) {
	for _, c := range []struct {
		name  string
		first string
		rows  []directory.Row
		want  string
	}{
		{"by order", "", []directory.Row{row("a", 2, nil), row("b", 1, nil)}, "b a"},
		{"healthy first", "", []directory.Row{row("a", 1, unhealthy), row("b", 2, nil)}, "b a"},
		{"preferred", "c", []directory.Row{row("a", 1, nil), row("b", 2, nil), row("c", 3, nil)}, "c a b"},
		{"preferred, and unhealthy", "a", []directory.Row{row("a", 1, unhealthy), row("b", 2, nil)}, "b a"},
		{"all unhealthy", "b", []directory.Row{row("a", 1, unhealthy), row("b", 2, unhealthy)}, "b a"},
		{"preferred, and gone", "z", []directory.Row{row("a", 1, nil)}, "a"},
		{"not running", "", []directory.Row{row("a", 1, func(r *directory.Row) { r.State = topics.Starting })}, ""},
		{"without an address", "", []directory.Row{row("a", 1, func(r *directory.Row) { r.Address = "" })}, ""},
		{"without a port", "", []directory.Row{row("a", 1, func(r *directory.Row) { r.Port = 0 })}, ""},
	} {
		if got := names(newDirectory(c.rows...).Usable("lamp", c.first)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// The best endpoint stays the best while it is no worse than others; a service has moved
// when its best endpoint has another address.
func TestUpdate(t *testing.T) {
	d := newDirectory(row("b", 2, nil))
	want := func(what string, defined, moved bool, before, now string) {
		t.Helper()
		m, b, n := d.Update("lamp", defined)
		if m != moved || b != before || n != now {
			t.Errorf("%s: moved %v from %q to %q, want %v from %q to %q", what, m, b, n, moved, before, now)
		}
	}
	want("the first", true, true, "", "b")
	d.SetDomain("a", []directory.Row{row("a", 1, nil)}) // it was reported running earlier
	want("another", true, false, "b", "b")
	if got := names(d.Endpoints("lamp")); got != "b a" {
		t.Errorf("endpoints %q", got)
	}
	d.SetDomain("b", []directory.Row{row("b", 2, unhealthy)})
	want("the best is unhealthy", true, true, "b", "a")
	d.SetDomain("a", []directory.Row{row("a", 1, func(r *directory.Row) { r.Port = 81 })})
	want("another port", true, true, "a", "a")
	d.SetDomain("a", nil)
	d.SetDomain("b", nil)
	want("none", true, false, "a", "")
	if address, is := d.Address("lamp"); !is || address != "10.0.0.1:81" {
		t.Errorf("the last address: %q, %v", address, is)
	}
	d.SetDomain("a", []directory.Row{row("a", 1, func(r *directory.Row) { r.Port = 81 })})
	want("it is back", true, false, "", "a")
	want("not defined", false, false, "a", "")
	d.Remove("lamp")
	if _, is := d.Address("lamp"); is {
		t.Error("a service that is gone has an address")
	}
}

// An address of IPv6 is one with a port, too.
func TestAddressOfIPv6(t *testing.T) {
	d := newDirectory(row("a", 1, func(r *directory.Row) { r.Address = "fd00::1" }))
	d.Update("lamp", true)
	if address, _ := d.Address("lamp"); address != "[fd00::1]:80" {
		t.Error(address)
	}
}

// What was the best endpoint in an earlier run of the hub is it until the hub has
// settled, whoever comes back first, and stays it then.
func TestRecall(t *testing.T) {
	d := directory.New()
	if !d.Recalls() || !d.Recall("lamp", "b") {
		t.Fatal("nothing is recalled")
	}
	d.SetDomain("a", []directory.Row{row("a", 1, nil)})
	d.Update("lamp", true)
	d.SetDomain("b", []directory.Row{row("b", 2, nil)})
	if _, before, now := d.Update("lamp", true); before != "a" || now != "b" {
		t.Errorf("best %q, then %q", before, now)
	}
	d.Settle()
	if d.Recalls() || d.Recall("lamp", "a") {
		t.Error("it is recalled after the hub has settled")
	}
	d.SetDomain("c", []directory.Row{row("c", 0, nil)})
	if _, _, now := d.Update("lamp", true); now != "b" {
		t.Errorf("best %q after the hub has settled", now)
	}
}
