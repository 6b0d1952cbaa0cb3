package notice

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// delivery is what a receiver has of a notice.
type delivery struct {
	id    string
	shown string // all that a reader sees
}

// rig is a Sender and the fake receiver behind it.
type rig struct {
	Sender
	plan      func(...fault)
	hang      func()
	refuse    func() // from now on, in the receiver's way
	delivered func() []delivery
	close     func() // the receiver goes away
	secrets   []string
}

// rigs are the senders that have to keep the contract. They have a console, so that links are shown.
var rigs = map[string]func(t testing.TB) rig{
	"webhook": func(t testing.TB) rig {
		w := newWebhookRig(t, true)
		return w.rig(func(h hit) delivery {
			return delivery{h.header.Get("Webhook-Id"), readable(t, h.body)}
		}, w.sender, webhookSecret().RevealString())
	},
	"slack": func(t testing.TB) rig {
		s := newSlackRig(t)
		r := rigOf(s.endpoint, func(h hit) delivery {
			var m slackMessage
			if err := json.Unmarshal(h.body, &m); err != nil {
				t.Error(err)
			}
			return delivery{m.Metadata.Payload["id"], unescapeMrkdwn(readable(t, h.body))}
		}, s.sender, slackToken().RevealString(), slackSigning().RevealString())
		r.refuse = func() {
			s.endpoint.answer = func(w http.ResponseWriter, _ hit) { _, _ = w.Write([]byte(`{"ok":false,"error":"channel_not_found"}`)) }
		}
		return r
	},
	"teams": func(t testing.TB) rig {
		e := newEndpoint(t, false)
		e.answer = status(http.StatusAccepted)
		key := "sig" + strings.Repeat("nature", 4)
		s, err := NewTeams(TeamsOptions{URL: cred.SecretString(e.URL + "/workflows/1?sig=" + key), AllowPlain: true, Console: console})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.receiver.client.CloseIdleConnections)
		return rigOf(e, func(h hit) delivery { return delivery{"", readable(t, h.body)} }, s, key)
	},
	"smtp": func(t testing.TB) rig {
		f := newMailServer(t)
		s := f.sender(t, SMTPOptions{Console: console})
		return rig{
			Sender: s, plan: f.plan, hang: f.hang, refuse: func() { f.set(func(m *mailServer) { m.rejects = "554 5.7.1 words of the receiver" }) },
			close: f.close, secrets: []string{mailPassword().RevealString()},
			delivered: func() (all []delivery) {
				for _, m := range f.mails() {
					all = append(all, delivery{m.header.Get("X-Daypass-Notice"), m.header.Get("Subject") + "\n" + m.body})
				}
				return all
			},
		}
	},
}

const console = "https://daypass.example.com/console"

func rigOf(e *endpoint, read func(hit) delivery, s Sender, secrets ...string) rig {
	return rig{
		Sender: s, plan: e.plan, hang: e.hang, close: e.Close, secrets: secrets,
		refuse: func() { e.answer = status(http.StatusInternalServerError) },
		delivered: func() (all []delivery) {
			for _, h := range e.taken() {
				all = append(all, read(h))
			}
			return all
		},
	}
}

// readable returns the strings of a JSON text, one a line.
func readable(t testing.TB, body []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Errorf("the receiver can't read %q: %v", body, err)
	}
	var b strings.Builder
	walk(v, nil, func(_ []string, s string) { b.WriteString(s + "\n") })
	return b.String()
}

// walk calls f with each string below a JSON value, and the keys that lead there.
func walk(v any, path []string, f func(path []string, s string)) {
	switch v := v.(type) {
	case string:
		f(path, v)
	case []any:
		for _, item := range v {
			walk(item, path, f)
		}
	case map[string]any:
		for key, item := range v {
			walk(item, append(path[:len(path):len(path)], key), f)
		}
	}
}

func eachRig(t *testing.T, fn func(t *testing.T, r rig)) {
	for name, build := range rigs {
		t.Run(name, func(t *testing.T) { fn(t, build(t)) })
	}
}

// within ends with a test that hangs.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestDelivers(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		if err := r.Send(within(t), pending()); err != nil {
			t.Fatal(err)
		}
		all := r.delivered()
		if len(all) != 1 || all[0].id != "nt_1" && all[0].id != "" {
			t.Fatalf("delivered %+v", all)
		}
		n := pending()
		for _, want := range []string{
			n.Requester, n.Actor, n.Target, "read", "write", n.Reason, n.Rule, "leads", "security", string(n.Grant), n.Text,
			console + "/requests/" + string(n.Grant),
		} {
			if !strings.Contains(all[0].shown, want) {
				t.Errorf("the notice does not show %q:\n%s", want, all[0].shown)
			}
		}
	})
}

// Every kind of notice gets through, also one that has nothing but its kind.
func TestDeliversEveryKind(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		kinds := []Kind{RequestPending, RequestReminder, RequestApproved, RequestDenied, RequestExpired, BreakGlassUsed, ReviewOverdue, StandingProposed, PolicyRefused, AlarmRaised, LeasesStray, LeasesMissing, RotationWaits, RotationStuck, RotationFailed, RotationDone, "unknown.kind"}
		for _, kind := range kinds {
			if err := r.Send(within(t), Notice{ID: "nt_2", Kind: kind, At: noon}); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if got := len(r.delivered()); got != len(kinds) {
			t.Errorf("%d of %d arrived", got, len(kinds))
		}
	})
}

// What did not arrive, and what arrived while its answer was lost, are both errors that permit
// another try; that one carries the same ID.
func TestFaults(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		for _, c := range []struct {
			f       fault
			arrived int
		}{{notDone, 0}, {doneLost, 1}} {
			before := len(r.delivered())
			r.plan(c.f)
			err := r.Send(within(t), pending())
			if cred.KindOf(err) != cred.Unavailable {
				t.Errorf("fault %d: %v", c.f, err)
			}
			if got := len(r.delivered()) - before; got != c.arrived {
				t.Errorf("fault %d: %d arrived", c.f, got)
			}
			if err := r.Send(within(t), pending()); err != nil {
				t.Errorf("after fault %d: %v", c.f, err)
			}
			all := r.delivered()
			if len(all) != before+c.arrived+1 || all[before].id != all[len(all)-1].id {
				t.Errorf("after fault %d: %+v", c.f, all)
			}
		}
	})
}

// Errors have public words, and neither they nor what they wrap shows a secret or a receiver's words
// to the public.
func TestErrorsAreCareful(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		var errs []error
		r.plan(notDone)
		errs = append(errs, r.Send(within(t), pending()))
		r.refuse()
		errs = append(errs, r.Send(within(t), pending()))
		over, cancel := context.WithCancel(context.Background())
		cancel()
		errs = append(errs, r.Send(over, pending()))
		r.close()
		errs = append(errs, r.Send(within(t), pending()))
		for _, err := range errs {
			e, ok := errors.AsType[*cred.Error](err)
			if !ok || e.Public == "" || e.Reason == "" || e.Op == "" || strings.Contains(e.Public, "words of the receiver") {
				t.Errorf("error %v", err)
			}
			for _, secret := range r.secrets {
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("an error shows a secret: %v", err)
				}
			}
		}
	})
}

// A receiver that takes the connection and says nothing is left when the context ends, by its
// deadline or before it.
func TestHangs(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.hang()
		timed, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		cancelled, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(50*time.Millisecond, cancel)
		begun := time.Now()
		for _, ctx := range []context.Context{timed, cancelled} {
			if err := r.Send(ctx, pending()); cred.KindOf(err) != cred.Unavailable {
				t.Errorf("error %v", err)
			}
		}
		if took := time.Since(begun); took > sendWithin/2 {
			t.Errorf("took %v", took)
		}
	})
}
