package ctl

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// addCertificates adds the verbs about keys and certificates.
func (a *app) addCertificates(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use: "ca", Short: "The certificate of the dominion's authority, PEM", GroupID: "look",
		Long: `Print the certificate of the dominion's authority as PEM, and SHA-256 of its
public key on stderr. Clients that verify the hub trust this file: --cafile, Home
Assistant, an ESP. Compare the hash with the one on the hub's machine where the
connection that brought it is not encrypted.`,
		Args: a.check(nil),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.authority(cmd.Context()) },
	})
	certificates := &cobra.Command{
		Use: topics.VerbCertificates, Short: "The certificates that the dominion has issued", GroupID: "look",
		Args: a.check(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return question(a, cmd.Context(), topics.VerbCertificates, topics.HubRequest{Action: "list"}, RenderCertificates)
		},
	}
	certificates.AddCommand(&cobra.Command{
		Use: "revoke KEY", Short: "End a key: none of its certificates is accepted any more",
		Long: `End a key, as "certificates" shows it: its 16 characters, with or without spaces
and hyphens, or all of its SHA-256. None of its certificates is accepted from now
on, also after a restart. Connections, sessions, queued and retained messages and
client identifiers of its user end at once.`,
		Args: a.check(names{"KEY", "[KEY]", "[KEY]", "[KEY]"}), // the characters are shown in four groups
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.revoke(cmd.Context(), strings.Join(args, ""))
		},
	})
	root.AddCommand(certificates)
}

// revoke has the hub revoke a key, and prints its row.
func (a *app) revoke(ctx context.Context, key string) error {
	s, err := a.connectFor(ctx, topics.VerbCertificates)
	if err != nil {
		return err
	}
	defer s.close()
	ask := topics.HubRequest{Action: "revoke", Key: key}
	reply, err := s.ask(ctx, topics.VerbCertificates, ask, a.timeout)
	if err != nil {
		return a.withSuggestion(ctx, s, ask, err)
	}
	rows, err := decoded[[]topics.CertificateView](s, topics.VerbCertificates, reply)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(topics.Encode(rows))
	}
	for _, c := range rows {
		a.infof("%s %s (%s): revoked", c.Use, cleanWords(certificateName(c)), identity.Label(c.Key))
	}
	return nil
}

// authorityDocument is the document of ca.
type authorityDocument struct {
	Certificate string `json:"certificate"`
	SHA256      string `json:"sha256"`
}

// authority prints the certificate of the authority.
func (a *app) authority(ctx context.Context) error {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	topic := s.tree.Hub(topics.HubCertificate)
	waiting, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	if err := s.subscribe(waiting, topic); err != nil {
		return err
	}
	for {
		m, err := s.receive(waiting)
		if err != nil && ctx.Err() == nil && waiting.Err() != nil {
			return fail(ExitNoAnswer, "is dominion running, and not older than this program? dominionctl status says whether it has keys", "there is no certificate at %s", topic)
		}
		if err != nil {
			return err
		}
		if m.Topic != topic {
			continue
		}
		v, err := topics.DecodeForDisplay[topics.HubCertificateView](m.Topic, m.Payload)
		if err != nil {
			return fail(ExitFailed, "update dominionctl, or the hub", "%v", err)
		}
		return a.printAuthority(v)
	}
}

// printAuthority prints the certificate, and the hash that tokens name.
func (a *app) printAuthority(v topics.HubCertificateView) error {
	certs, err := identity.ParseCertificates([]byte(v.Authority))
	if err != nil {
		return fail(ExitFailed, "update dominionctl, or the hub", "cannot read the authority's certificate: %v", err)
	}
	doc := authorityDocument{Certificate: string(identity.EncodeCertificates(certs[0])), SHA256: hashOf(certs[0])}
	if a.json {
		return a.printJSON(topics.Encode(doc))
	}
	fmt.Fprintf(a.env.Stderr, "SHA-256 of its public key: %s\n", doc.SHA256)
	_, err = fmt.Fprint(a.env.Stdout, doc.Certificate)
	return err
}

// hashOf returns SHA-256 of a certificate's public key.
func hashOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// RenderCertificates draws the certificates.
func RenderCertificates(w io.Writer, all []topics.CertificateView, s Style) error {
	return buffered(w, func(b *bufio.Writer) {
		t := table{columns: []column{{head: "NAME", min: 12}, {head: "USE"}, {head: "KEY"}, {head: "ISSUED"}, {head: "EXPIRES"}, {head: "STATE"}}}
		for _, c := range all {
			note := ""
			if c.Revoked {
				note = "revoked"
			}
			t.add(textCell(certificateName(c)), textCell(c.Use), textCell(identity.Label(c.Key)), textCell(dayOf(c.Issued)), textCell(dayOf(c.Expires)), textCell(note))
		}
		t.draw(b, s)
	})
}

// certificateName returns whose certificate it is, for people: a domain's has its id.
func certificateName(c topics.CertificateView) string {
	if c.Domain != "" {
		return c.Domain + " (" + c.Name + ")"
	}
	return c.Name
}

// dayOf returns the day of a time; "" for none.
func dayOf(t topics.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateOnly)
}

// userCertificateDocument is the document of user certificate.
type userCertificateDocument struct {
	Status      string `json:"status"`
	Verb        string `json:"verb"`
	Action      string `json:"action"`
	User        string `json:"user"`
	Certificate string `json:"certificate"` // path of the file
	Key         string `json:"key"`         // path of the file
}

// userCertificate makes a key in a folder, has the hub issue a certificate of it for a
// user, and writes that beside it. Neither file may exist.
func (a *app) userCertificate(ctx context.Context, user, folder string, days int) error {
	if strings.ContainsAny(user, "/\x00") || user == "." || user == ".." {
		return fail(ExitUsage, "", "%q cannot be the name of a file", user)
	}
	key, err := identity.NewKey()
	if err != nil {
		return fail(ExitFailed, "", "cannot make a key: %v", err)
	}
	request, err := identity.NewRequest(key, user)
	if err != nil {
		return fail(ExitFailed, "", "%v", err)
	}
	text, err := identity.EncodeKey(key)
	if err != nil {
		return fail(ExitFailed, "", "%v", err)
	}
	doc := userCertificateDocument{
		Status: topics.StatusOK, Verb: topics.VerbUser, Action: "certificate", User: user,
		Certificate: filepath.Join(folder, user+".crt"), Key: filepath.Join(folder, user+".key"),
	}
	s, err := a.connectFor(ctx, topics.VerbCertificates)
	if err != nil {
		return err
	}
	defer s.close()
	ask := topics.HubRequest{Action: "issue", User: user, Request: string(request), Days: days}
	reply, err := s.ask(ctx, topics.VerbCertificates, ask, a.timeout)
	if err != nil {
		return a.withSuggestion(ctx, s, ask, err)
	}
	issued, err := decoded[[]topics.CertificateView](s, topics.VerbCertificates, reply)
	if err != nil {
		return err
	}
	if len(issued) != 1 || issued[0].Certificate == "" {
		return fail(ExitFailed, "update dominionctl, or the hub", "the answer has no certificate")
	}
	if err := atomicfile.Create(doc.Key, text, 0o600); err != nil {
		return fail(ExitFailed, "remove the file, or name another folder with --out", "%v", err)
	}
	if err := atomicfile.Create(doc.Certificate, []byte(issued[0].Certificate), 0o644); err != nil {
		return fail(ExitFailed, "remove the file, or name another folder with --out", "%v", err)
	}
	if a.json {
		return a.printJSON(topics.Encode(doc))
	}
	_, err = fmt.Fprintf(a.env.Stdout, "%s\n%s\n", doc.Certificate, doc.Key)
	return err
}
