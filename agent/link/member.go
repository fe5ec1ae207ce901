package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// Member is whom the domain belongs to, and what it asks while it wants to be adopted.
// The link calls it on its own goroutines. Its methods may wait for the disk.
type Member interface {
	// Home returns the dominion that has adopted the domain, and where its hub was; false
	// before an adoption.
	Home() (Home, bool)
	// TLS returns how a client verifies the hub of home, with the domain's certificate;
	// nil before an adoption.
	TLS() *tls.Config
	// Word returns the word that the domain shows at its next join.
	Word() string
	// Authority returns the hash of the newest authority that the domain has stored; "":
	// it has none.
	Authority() string
	// StoreWord stores the word that the hub gave at a join.
	StoreWord(word string) error
	// SignJoin returns a request to join as it is published: signed by the domain's key, and
	// with the last start command that was obeyed, if a dominion has adopted the domain.
	SignJoin(ask topics.HubRequest) ([]byte, error)
	// VerifyAnswer returns the payload of the answer to a request to join, which the hub of
	// home has signed; before an adoption, any.
	VerifyAnswer(m topics.Message) ([]byte, error)
	// RenewAt returns when the domain's certificate is to be renewed; zero: never.
	RenewAt() time.Time
	// RenewNow has the certificate renewed at once.
	RenewNow()
	// StoreCertificate stores a certificate that the hub has issued, as a grant has it; an
	// empty one means that it did not.
	StoreCertificate(chain [][]byte) error

	// Apply begins an application, and End ends it. upgrade is the id of the dominion that the
	// domain joined before it had a key, where its hub takes it over; "": any hub may adopt it.
	Apply(upgrade string) error
	End()
	// Topics returns where hubs are asked, and where they answer.
	Topics() (question, answer string)
	// Question returns what hubs are asked with.
	Question() ([]byte, error)
	// Addresses returns other addresses than those that the link finds, as lists of URLs:
	// each list is one hub's.
	Addresses() [][]string
	// Receive takes what a hub answered that is reached at a URL, and returns messages to
	// be sent. Once adopted is true the domain is: home is stored.
	Receive(url string, m topics.Message) (out []ToHub, adopted bool)
	// Expire does what is due, and returns messages to be sent.
	Expire() []ToHub
	// Next returns when Expire has something to do; zero: not by itself.
	Next() time.Time
	// Changed holds a value when the question or the addresses have changed, or when
	// Expire has something to do at once.
	Changed() <-chan struct{}
	// Asks notes that the domain asks at a URL, or why it cannot.
	Asks(url string, err error)
}

// Home is the dominion that a domain belongs to.
type Home struct {
	Dominion
	// URL is where its hub adopted the domain; Encrypted reports whether by TLS.
	URL       string
	Encrypted bool
}

// ToHub is a message to the hub that is reached at a URL.
type ToHub struct {
	URL     string
	Payload []byte
}

// askToUpgrade asks the hub that has granted a join, and no other one, to take over this domain's
// key: the domain joined that dominion before it had one.
func (l *Link) askToUpgrade(ctx context.Context, j join) {
	if _, adopted := l.home(); l.o.Member == nil || adopted || !j.grant.Upgrade {
		return
	}
	l.setAsking(ctx, false) // what it asked of others
	l.upgrade = &upgrade{j.grant.Dominion, target{urls: []string{j.url}, joined: true}}
	l.setAsking(ctx, true)
	l.askAt(l.targets(nil))
}

// endUpgrade ends that, as the connection of the join is over.
func (l *Link) endUpgrade(ctx context.Context) {
	if l.upgrade != nil {
		l.setAsking(ctx, false)
		l.upgrade = nil
		l.updateAsking(ctx)
	}
}

// upgrade is a dominion that takes over this domain's key, and its hub.
type upgrade struct {
	dominion string
	target   target
}

// home returns the dominion that has adopted the domain.
func (l *Link) home() (Home, bool) {
	if l.o.Member == nil {
		return Home{}, false
	}
	return l.o.Member.Home()
}

// mayJoin reports whether the domain may request a join: it was adopted, or remembers a
// dominion that it joined before it had a key.
func (l *Link) mayJoin() bool {
	_, adopted := l.home()
	return l.o.Member == nil || adopted || l.previous.ID != ""
}

// takeHome makes the dominion that has adopted the domain the one that it joins. At the
// start, what is remembered of that is as new, or newer.
func (l *Link) takeHome(adoptedNow bool) {
	home, adopted := l.home()
	if adopted && (adoptedNow || home.ID != l.previous.ID) {
		l.previous, l.lastURL = home.Dominion, home.URL
	}
}

// adopted takes over the dominion that has adopted the domain just now.
func (l *Link) adopted(ctx context.Context) {
	l.unanswered = nil
	l.stranger, l.refused, l.mustBeAdopted = false, false, false
	l.setAsking(ctx, false)
	l.takeHome(true)
	l.o.Post(Adopted{})
}

// secure returns how the broker at a URL is verified where the domain has pinned an
// authority: by that, or by its name and cafile if the configuration names it; nil: by
// its name alone, or it is without TLS.
func (l *Link) secure(address string) *tls.Config {
	if l.o.Member == nil || !locate.Encrypted(address) {
		return nil
	}
	c := l.o.Member.TLS()
	if c == nil {
		return nil
	}
	if l.o.Config.User != "" { // the certificate is of another user, the domain itself
		c.Certificates = nil
	}
	if !l.verifiableByName(address) {
		return c
	}
	pinned := c.VerifyConnection
	c.VerifyConnection = func(state tls.ConnectionState) error {
		err := pinned(state)
		if err != nil && verifyByName(state, address, l.o.Config.CAFile) == nil {
			return nil // a broker that is not the dominion's own
		}
		return err
	}
	return c
}

// verifiableByName reports whether the certificate of a broker that is not the
// dominion's own may be verified by name and cafile.
func (l *Link) verifiableByName(address string) bool {
	if slices.Contains(config.HubURLs(l.o.Config.Hub), address) {
		return true
	}
	if l.o.Config.CAFile == "" {
		return false
	}
	_, refused := locate.Credentials{Password: true, Pinned: true}.Allow([]string{address})
	return refused == nil
}

// verifyByName verifies a certificate by the host of a URL and the authorities of a file,
// or those of the system.
func verifyByName(state tls.ConnectionState, address, caFile string) error {
	u, err := url.Parse(address)
	if err != nil || len(state.PeerCertificates) == 0 {
		return errors.New("the broker has no certificate")
	}
	o := x509.VerifyOptions{DNSName: u.Hostname(), Intermediates: x509.NewCertPool()}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return err
		}
		o.Roots = x509.NewCertPool()
		o.Roots.AppendCertsFromPEM(pem)
	}
	for _, cert := range state.PeerCertificates[1:] {
		o.Intermediates.AddCert(cert)
	}
	_, err = state.PeerCertificates[0].Verify(o)
	return err
}

// storeWord stores the word of a grant, and then confirms it to the hub.
func (l *Link) storeWord(conn Conn, g topics.Grant) {
	if l.o.Member == nil || g.Word == "" {
		return
	}
	if err := l.o.Member.StoreWord(g.Word); err != nil {
		l.logOnce("word", slog.LevelWarn, err.Error())
		return
	}
	e := l.newExchange()
	e.ask.Response, e.ask.Word, e.ask.Confirm = "", "", g.Word
	m, err := l.message(e)
	if err != nil {
		l.logOnce("word", slog.LevelWarn, err.Error())
		return
	}
	conn.Publish(m)
}

// farAway is longer than any timer needs to wait.
const farAway = 24 * time.Hour

// untilRenewal returns how long the certificate of the domain needs no renewal, or a day
// if that is longer.
func (l *Link) untilRenewal() time.Duration {
	if l.o.Member == nil {
		return farAway
	}
	at := l.o.Member.RenewAt()
	if at.IsZero() {
		return farAway
	}
	return min(farAway, max(0, time.Until(at)))
}

// renewNow has the certificates of the domain and its services renewed if the hub finds that they
// are to be.
func (l *Link) renewNow(g topics.Grant) {
	if !g.Renew {
		return
	}
	if l.o.Member != nil {
		l.o.Member.RenewNow()
	}
	if l.o.Services != nil {
		l.o.Services.RenewNow()
	}
}

// renew asks the hub for a new certificate of the domain's key if it is due. It uses a
// connection of its own, so that the one of the join goes on.
func (l *Link) renew(ctx context.Context, c candidate) {
	if l.untilRenewal() > 0 {
		return // not yet
	}
	e := l.newExchange()
	e.ask.Word, e.ask.Renew = "", true
	g, err := l.request(ctx, c, AnswerTimeout, e)
	l.storeCertificate(g, err)
}

// storeCertificate stores the certificate of a grant.
func (l *Link) storeCertificate(g topics.Grant, err error) {
	if store := l.o.Member.StoreCertificate(g.Certificate); err == nil {
		err = store
	}
	if err != nil {
		l.logOnce("certificate", slog.LevelWarn, "cannot renew the certificate of this domain, it is tried again: "+err.Error())
	}
}
