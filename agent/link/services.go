package link

import "context"

// Services are the certificates of the domain's services. The link calls it on its own
// goroutine. Its methods do not wait for the disk.
type Services interface {
	// Changed holds a value when Keys may have changed.
	Changed() <-chan struct{}
	// Keys returns the public keys to ask for now, by service; empty: there is nothing to ask.
	Keys() map[string][]byte
	// Certified returns the hashes of the keys that have a certificate.
	Certified() []string
	// RenewNow has all certificates renewed.
	RenewNow()
	// Answered takes the certificates that the hub has issued, or why it did not.
	Answered(asked map[string][]byte, chains map[string][][]byte, err error)
}

// certifyServices asks the hub for the certificates of services that need one. It uses a
// connection of its own, as renew does.
func (l *Link) certifyServices(ctx context.Context, c candidate) {
	asked := l.o.Services.Keys()
	if len(asked) == 0 {
		return
	}
	e := l.newExchange()
	e.ask.Word, e.ask.ServiceKeys = "", asked
	g, err := l.request(ctx, c, AnswerTimeout, e)
	if ctx.Err() != nil {
		return // the agent ends
	}
	l.o.Services.Answered(asked, g.ServiceCertificates, err)
}
