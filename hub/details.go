package hub

import (
	"cmp"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// details are what is shown of a service beside what is decided about it. They are
// kept while it is defined; over a restart of the hub link and lastError come back
// with its retained status.
type details struct {
	link      string                       // of its web page
	lastError *topics.ServiceError         // its last crash or failure
	releases  map[string]topics.CatalogRow // release notes by version, of those that have some
}

// detailsOf returns the details of a service, which may be changed.
func (h *Hub) detailsOf(service string) *details {
	d := h.details[service]
	if d == nil {
		d = new(details)
		h.details[service] = d
	}
	return d
}

// recallDetails takes what an earlier run of the hub published of a service.
func (h *Hub) recallDetails(service string, s topics.Service) {
	d := h.detailsOf(service)
	d.link = cmp.Or(d.link, s.Link)
	if d.lastError == nil {
		d.lastError = s.LastError
	}
}

// noteError remembers the last crash or failure of a service. Unless it happened
// again it may be the one that an earlier run of the hub told of.
func (h *Hub) noteError(service, domain, message string, again bool, now time.Time) {
	d, message := h.detailsOf(service), shortened(message)
	if last := d.lastError; !again && last != nil && last.Domain == domain && last.Message == message {
		return
	}
	d.lastError = &topics.ServiceError{At: topics.At(now), Domain: domain, Message: message}
}

// noteRelease remembers the release notes in a row of a catalog, until no catalog
// has that version any more. Of two domains that tell different ones of a version the
// first counts.
func (h *Hub) noteRelease(row topics.CatalogRow) {
	if row.ReleaseURL == "" && row.Summary == "" {
		return
	}
	d := h.detailsOf(row.Service)
	if _, known := d.releases[row.Version]; known {
		return
	}
	if d.releases == nil {
		d.releases = make(map[string]topics.CatalogRow)
	}
	d.releases[row.Version] = row
}

// linkOf returns the URL of the web page of a service, "" where it has none that
// others can reach. While it runs nowhere that is where it was last: a page that
// comes and goes with each restart is of no use.
func (h *Hub) linkOf(service string) string {
	d := h.detailsOf(service)
	def := h.definition(service)
	all := h.directory.Endpoints(service)
	if len(all) > 0 {
		d.link = ""
	}
	for _, e := range all {
		if scheme := schemeOf(def, e.Port); scheme != "" && reachable(e.Address) {
			host := net.JoinHostPort(e.Address, strconv.Itoa(e.Port))
			if e.Port == 80 || e.Port == 443 {
				host = strings.TrimSuffix(host, ":"+strconv.Itoa(e.Port))
			}
			d.link = scheme + "://" + host + "/"
			break
		}
	}
	return d.link
}

// schemeOf returns the scheme of the web page at a port of a service; "": there is
// none as far as anybody says.
func schemeOf(def services.Definition, port int) string {
	switch {
	case port == 443:
		return "https"
	case port == 80, def.Health != nil && def.Health.HTTP != "":
		return "http"
	}
	return ""
}

// reachable reports whether other machines reach an address, which may be a host
// name. One of the local link needs a zone, which is another one on each machine.
func reachable(address string) bool {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address != "" && address != "localhost"
	}
	return !ip.IsLoopback() && !ip.IsUnspecified() && !ip.IsLinkLocalUnicast()
}
