package notice

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
)

// SMTPSecurity says how a connection to a mail server is protected.
type SMTPSecurity string

// The ways of protecting it.
const (
	StartTLS    SMTPSecurity = "starttls" // demanded, never skipped (RFC 3207)
	ImplicitTLS SMTPSecurity = "tls"      // from the first byte (RFC 8314, section 3.3)
	PlainSMTP   SMTPSecurity = "none"     // on a loopback address alone
)

// SMTPOptions say which mail server takes notices, and for whom.
type SMTPOptions struct {
	Address  string // host and port
	Security SMTPSecurity
	From     string // an address as in RFC 5322, with or without a name
	To       []string
	Username string      // empty: without AUTH
	Password cred.Secret // for AUTH PLAIN (RFC 4616)
	CAFile   string      // PEM; empty: the system's CAs
	Console  string      // base URL of the console, for links; may be empty
}

// SMTP sends notices as e-mail (RFC 5321).
type SMTP struct {
	o       SMTPOptions
	host    string
	tls     *tls.Config
	from    *mail.Address
	to      []*mail.Address
	dialer  net.Dialer
	reached reached
}

// NewSMTP returns a Sender for e-mail. The error is Invalid for options that can't be used.
func NewSMTP(o SMTPOptions) (*SMTP, error) {
	const op = "notice.smtp"
	invalid := func(rule string) error {
		return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "CHANNEL_INVALID", Public: rule}
	}
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil || host == "" {
		return nil, invalid("the address of a mail server is a host and a port")
	}
	pool, err := outbound.CAs(o.CAFile)
	if err != nil {
		return nil, badCAFile(op, err)
	}
	s := &SMTP{o: o, host: host, tls: &tls.Config{ServerName: host, RootCAs: pool, MinVersion: tls.VersionTLS12}}
	switch {
	case o.Security != StartTLS && o.Security != ImplicitTLS && o.Security != PlainSMTP:
		return nil, invalid("the connection to a mail server is protected by starttls or tls")
	case o.Security == PlainSMTP && (!isLoopback(host) || o.Username != ""):
		return nil, invalid("a mail server without TLS must be on a loopback address, and gets no password")
	case (o.Username == "") != o.Password.IsZero():
		return nil, invalid("a mail server gets a user name and a password, or neither")
	case len(o.To) == 0:
		return nil, invalid("e-mail needs somebody to go to")
	}
	if s.from, err = mail.ParseAddress(o.From); err != nil {
		return nil, invalid("the sender of e-mail is no address")
	}
	for _, to := range o.To {
		a, err := mail.ParseAddress(to)
		if err != nil {
			return nil, invalid("a recipient of e-mail is no address")
		}
		s.to = append(s.to, a)
	}
	return s, nil
}

// Send implements Sender: one message to all recipients. Where the server refuses some for now, the
// others get it, and the next try is for the rest; those that it refuses for good are reported as a
// PartialError.
func (s *SMTP) Send(ctx context.Context, n Notice) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return s.failed("connect", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	client, err := smtp.NewClient(conn, s.host)
	if err != nil {
		_ = conn.Close()
		return s.failed("greet", err)
	}
	defer func() { _ = client.Close() }()
	if err := s.prepare(client); err != nil {
		return err
	}
	return s.deliver(client, n)
}

// deliver hands the message over for those who have not had it, and sums up how that went.
func (s *SMTP) deliver(c *smtp.Client, n Notice) error {
	e, err := s.envelope(c, s.reached.of(n.ID))
	if err != nil {
		return err
	}
	if len(e.accepted) > 0 {
		if err := s.data(c, n); err != nil {
			return err
		}
		_ = c.Quit() // the message is the server's already
	}
	had := s.reached.add(n.ID, e.accepted)
	if e.later != nil {
		return e.later
	}
	s.reached.forget(n.ID)
	if e.missed != nil && had == 0 {
		return e.missed.Err
	}
	if e.missed != nil {
		return e.missed
	}
	return nil
}

func (s *SMTP) dial(ctx context.Context) (net.Conn, error) {
	conn, err := s.dialer.DialContext(ctx, "tcp", s.o.Address)
	if err != nil {
		return nil, err
	}
	conn = &bounded{Conn: conn, left: maxReplies}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(sendWithin)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if s.o.Security == ImplicitTLS {
		return tls.Client(conn, s.tls), nil // its handshake comes with the first read
	}
	return conn, nil
}

// prepare protects the connection and signs in.
func (s *SMTP) prepare(c *smtp.Client) error {
	if err := c.Hello(s.helo()); err != nil {
		return s.failed("say hello", err)
	}
	if s.o.Security == StartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return s.failed("STARTTLS", errors.New("the server does not offer it"))
		}
		if err := c.StartTLS(s.tls); err != nil {
			return s.failed("STARTTLS", err)
		}
	}
	if s.o.Username == "" {
		return nil
	}
	if ok, _ := c.Extension("AUTH"); !ok {
		return s.failed("AUTH", errors.New("the server does not offer it"))
	}
	if err := c.Auth(smtp.PlainAuth("", s.o.Username, s.o.Password.RevealString(), s.host)); err != nil {
		return s.refused("the user name and password", err)
	}
	return nil
}

// helo is the name that the client gives itself: the sender's domain, for our host's own name may
// tell too much.
func (s *SMTP) helo() string { return domainOf(s.from.Address) }

// envelope is what the server says of the recipients.
type envelope struct {
	accepted []string
	later    error         // of the first that is refused for now
	missed   *PartialError // those that are refused for good
}

// envelope names the sender and the recipients, but for those who have had the message.
func (s *SMTP) envelope(c *smtp.Client, had []string) (envelope, error) {
	var e envelope
	if err := c.Mail(s.from.Address); err != nil {
		return e, s.refused("the sender", err)
	}
	for _, to := range s.to {
		if slices.Contains(had, to.Address) {
			continue
		}
		err := c.Rcpt(to.Address)
		switch {
		case err == nil:
			e.accepted = append(e.accepted, to.Address)
		case !isReply(err):
			return e, s.failed("name a recipient", err)
		case !permanent(err):
			e.later = cmp.Or(e.later, s.refused("a recipient for now", err))
		default:
			if e.missed == nil {
				e.missed = &PartialError{Err: s.refused("a recipient", err)}
			}
			e.missed.Missed = append(e.missed.Missed, to.Address)
		}
	}
	return e, nil
}

func (s *SMTP) data(c *smtp.Client, n Notice) error {
	w, err := c.Data()
	if err != nil {
		return s.refused("the message", err)
	}
	if _, err := w.Write(s.message(n)); err != nil {
		return s.failed("send the message", err)
	}
	if err := w.Close(); err != nil {
		return s.refused("the message", err)
	}
	return nil
}

func isReply(err error) bool {
	_, ok := errors.AsType[*textproto.Error](err)
	return ok
}

// permanent reports whether a server's reply is 5yz (RFC 5321, section 4.2.1).
func permanent(err error) bool {
	e, ok := errors.AsType[*textproto.Error](err)
	return ok && e.Code >= 500 && e.Code <= 599
}

// refused is the error of a reply; the server's words stay in our log. All are worth another try: an
// operator may mend a mailbox or a password within the day.
func (s *SMTP) refused(what string, err error) error {
	e, ok := errors.AsType[*textproto.Error](err)
	if !ok {
		return s.failed("hand over "+what, err)
	}
	return &cred.Error{Kind: cred.Unavailable, Op: "notice.smtp", Reason: "RECEIVER_REFUSED", Public: fmt.Sprintf("the mail server refused %s with reply %d", what, e.Code), Err: err}
}

func (s *SMTP) failed(step string, err error) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "notice.smtp", Reason: "RECEIVER_UNREACHABLE",
		Public: "the mail server can't be reached, or its answer was lost", Err: fmt.Errorf("%s: %w", step, err),
	}
}
