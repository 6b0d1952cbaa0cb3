package notice

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

func TestMail(t *testing.T) {
	f := newMailServer(t)
	if err := f.sender(t, SMTPOptions{Console: console}).Send(within(t), pending()); err != nil {
		t.Fatal(err)
	}
	m := f.mails()[0]
	if m.from != "FROM:<daypass@example.com>" || !slices.Equal(m.to, []string{"ada@example.com", "grace@example.com"}) || !m.secure {
		t.Errorf("envelope %q %q, secure %v", m.from, m.to, m.secure)
	}
	for name, want := range map[string]string{
		"From": `"daypass" <daypass@example.com>`, "To": `"Ada" <ada@example.com>, <grace@example.com>`,
		"Subject": "[daypass] Approval needed: orders-db", "Date": "Fri, 20 Nov 2026 12:00:00 +0000",
		"Auto-Submitted": "auto-generated", "X-Daypass-Notice": "nt_1",
	} {
		if got := m.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	want := strings.ReplaceAll(`Approval needed: orders-db

One of leads and one of security must agree.

Requested by: Grace
Acting for them: build-agent
Target: orders-db
Scopes: read, write
Rule: deploys
Asked: leads, security
Decide before: 2026-11-20 13:00 UTC
ID: gr_01hzx3v9k2m4n6p8q0r2s4t6v8
Reason:
> fix order 4711

https://daypass.example.com/console/requests/gr_01hzx3v9k2m4n6p8q0r2s4t6v8

daypass requests show gr_01hzx3v9k2m4n6p8q0r2s4t6v8
`, "\n", "\r\n")
	if m.body != want {
		t.Errorf("body\n%s\nwant\n%s", m.body, want)
	}
}

func TestMessageID(t *testing.T) {
	f := newMailServer(t)
	s := f.sender(t, SMTPOptions{})
	other := pending()
	other.ID = "nt_2"
	for _, n := range []Notice{pending(), pending(), other} {
		if err := s.Send(within(t), n); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for _, m := range f.mails() {
		ids = append(ids, m.header.Get("Message-Id"))
	}
	if ids[0] != ids[1] || ids[0] == ids[2] || !strings.HasSuffix(ids[0], "@example.com>") {
		t.Errorf("IDs %q", ids)
	}
}

// Nothing is said to a server before the connection is protected as configured.
func TestMailIsProtected(t *testing.T) {
	for _, c := range []struct {
		name   string
		server func(*mailServer)
		o      SMTPOptions
		ok     bool
	}{
		{"STARTTLS", func(*mailServer) {}, SMTPOptions{}, true},
		{"STARTTLS is not offered", func(m *mailServer) { m.noTLS = true }, SMTPOptions{}, false},
		{"implicit TLS", func(m *mailServer) { m.implicit = true }, SMTPOptions{Security: ImplicitTLS}, true},
		{"plain, on loopback", func(m *mailServer) { m.noTLS, m.noAuth = true, true }, SMTPOptions{Security: PlainSMTP}, true},
		{"AUTH is not offered", func(m *mailServer) { m.noAuth = true }, SMTPOptions{}, false},
		{"another password", func(*mailServer) {}, SMTPOptions{Username: "daypass", Password: cred.SecretString("wrong")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newMailServer(t)
			f.set(c.server)
			err := f.sender(t, c.o).Send(within(t), pending())
			if (err == nil) != c.ok || len(f.mails()) == 1 != c.ok {
				t.Fatalf("error %v, %d mails", err, len(f.mails()))
			}
			if c.ok && f.mails()[0].secure != (c.o.Security != PlainSMTP) {
				t.Errorf("over TLS: %v", f.mails()[0].secure)
			}
			if !c.ok && cred.KindOf(err) != cred.Unavailable {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A server that the CA did not sign gets neither password nor mail.
func TestMailVerifiesTheServer(t *testing.T) {
	for _, security := range []SMTPSecurity{StartTLS, ImplicitTLS} {
		f, other := newMailServer(t), newWebhookRig(t, true)
		f.set(func(m *mailServer) { m.implicit = security == ImplicitTLS })
		s := f.sender(t, SMTPOptions{Security: security})
		s.tls.RootCAs = nil
		other.Close()
		if err := s.Send(within(t), pending()); cred.KindOf(err) != cred.Unavailable || len(f.mails()) != 0 {
			t.Errorf("%s: %v, %d mails", security, err, len(f.mails()))
		}
	}
}

// Each recipient gets the notice once, however long another one is refused for now; who is refused
// for good is reported.
func TestRecipients(t *testing.T) {
	f := newMailServer(t)
	s := f.sender(t, SMTPOptions{To: []string{"ada@example.com", "full@example.com", "gone@example.com"}})
	reply := func(address, text string) { f.set(func(m *mailServer) { m.replies[address] = text }) }
	reply("full@example.com", "452 4.2.2 mailbox full")
	reply("gone@example.com", "550 5.1.1 no such user")
	for range 3 {
		err := s.Send(within(t), pending())
		if _, ok := errors.AsType[*PartialError](err); ok || cred.KindOf(err) != cred.Unavailable {
			t.Fatalf("while a mailbox is full: %v", err)
		}
	}
	if got := f.mails(); len(got) != 1 || !slices.Equal(got[0].to, []string{"ada@example.com"}) {
		t.Fatalf("mails %+v", got)
	}
	reply("full@example.com", "")
	p, ok := errors.AsType[*PartialError](s.Send(within(t), pending()))
	if !ok || !slices.Equal(p.Missed, []string{"gone@example.com"}) || cred.KindOf(p.Err) != cred.Unavailable {
		t.Errorf("in the end: %+v", p)
	}
	if got := f.mails(); len(got) != 2 || !slices.Equal(got[1].to, []string{"full@example.com"}) {
		t.Errorf("mails %+v", got)
	}
	if len(s.reached.by) != 0 {
		t.Errorf("the sender remembers %v", s.reached.by)
	}
}

func TestNobodyIsReached(t *testing.T) {
	f := newMailServer(t)
	s := f.sender(t, SMTPOptions{To: []string{"gone@example.com"}})
	f.set(func(m *mailServer) { m.replies["gone@example.com"] = "550 5.1.1 no such user" })
	err := s.Send(within(t), pending())
	if _, partial := errors.AsType[*PartialError](err); partial || cred.PublicText(err) != "the mail server refused a recipient with reply 550" {
		t.Errorf("error %v", err)
	}
}

func TestReachedIsBounded(t *testing.T) {
	var r reached
	for i := range 3 * maxReached {
		r.add(string(rune('a'+i%26))+strings.Repeat("x", i/26), []string{"ada@example.com"})
	}
	if len(r.by) > maxReached {
		t.Errorf("%d are remembered", len(r.by))
	}
}

// A server that talks without end is left.
func TestEndlessReplies(t *testing.T) {
	f := newMailServer(t)
	s := f.sender(t, SMTPOptions{To: []string{"ada@example.com"}})
	f.set(func(m *mailServer) { m.replies["ada@example.com"] = "250-" + strings.Repeat("x", 2*maxReplies) })
	begun := time.Now()
	if err := s.Send(within(t), pending()); cred.KindOf(err) != cred.Unavailable || err == nil {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestSMTPRefusesOptions(t *testing.T) {
	for name, change := range map[string]func(o *SMTPOptions){
		"no port":                  func(o *SMTPOptions) { o.Address = "mail.example.com" },
		"no host":                  func(o *SMTPOptions) { o.Address = ":587" },
		"no protection named":      func(o *SMTPOptions) { o.Security = "" },
		"plain elsewhere":          func(o *SMTPOptions) { o.Security, o.Username, o.Password = PlainSMTP, "", cred.Secret{} },
		"a password without TLS":   func(o *SMTPOptions) { o.Address, o.Security = "127.0.0.1:25", PlainSMTP },
		"no password":              func(o *SMTPOptions) { o.Password = cred.Secret{} },
		"no user name":             func(o *SMTPOptions) { o.Username = "" },
		"no sender":                func(o *SMTPOptions) { o.From = "" },
		"a sender of two lines":    func(o *SMTPOptions) { o.From = "a@example.com\r\nBcc: b@example.com" },
		"no recipient":             func(o *SMTPOptions) { o.To = nil },
		"a recipient of two lines": func(o *SMTPOptions) { o.To = []string{"a@example.com>\r\nRCPT TO:<b@example.com"} },
		"a CA file that is none":   func(o *SMTPOptions) { o.CAFile = "none.pem" },
	} {
		o := SMTPOptions{
			Address: "mail.example.com:587", Security: StartTLS, From: "daypass@example.com", To: []string{"ada@example.com"},
			Username: "daypass", Password: mailPassword(),
		}
		if _, err := NewSMTP(o); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if _, err := NewSMTP(o); err == nil || cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
