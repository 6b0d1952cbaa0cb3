package vault_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
)

// A credential of a role with a short default_ttl lives on until its grant's end, and no longer, whatever
// renewals ask for.
func (w *world) testRenewToTheEnd(t *testing.T) {
	iss := newIssuer(t, w.config())
	notAfter := in(8 * time.Second)
	c, l := w.issue(t, iss, brief(notAfter))
	first := l.NotAfter
	if !l.Renewable || first.After(in(3*time.Second)) {
		t.Fatalf("renewable %v, it ends in %v", l.Renewable, time.Until(first))
	}
	end, err := iss.Renew(t.Context(), l, in(time.Hour))
	if err != nil || end.After(notAfter) || end.Before(notAfter.Add(-3*time.Second)) {
		t.Fatalf("renewed until %v before the grant's end, %v", notAfter.Sub(end), err)
	}
	l.NotAfter = end
	eventually(t, 10*time.Second, "its first end has passed, by a second", func() bool {
		if err := w.works(t.Context(), c); err != nil {
			t.Fatalf("%v after its first end: %v", time.Since(first), err)
		}
		return time.Since(first) > time.Second
	})
	eventually(t, 20*time.Second, "the user is gone", func() bool { return w.works(t.Context(), c) != nil })
	if late := time.Since(notAfter); late > 14*time.Second || late < -3*time.Second {
		t.Errorf("ended %v after the grant", late)
	}
	eventually(t, 10*time.Second, "the lease is gone", func() bool { n, err := w.alive(t.Context()); return err == nil && n == 0 })
	if _, err := iss.Renew(t.Context(), l, in(time.Hour)); cred.KindOf(err) != cred.Invalid {
		t.Errorf("renewed beyond the end of its own token: %v", err)
	}
}

// The role's max_ttl ends renewing, and the error says so.
func (w *world) testRenewMaximum(t *testing.T) {
	w.DatabaseRole(t, "short", "2s", "6s")
	iss := newIssuer(t, w.config())
	s := brief(in(10 * time.Minute))
	s.Target.Credential.Path = "database/creds/short"
	began := time.Now()
	c, l := w.issue(t, iss, s)
	end, err := iss.Renew(t.Context(), l, s.NotAfter)
	if err != nil || end.After(began.Add(7*time.Second)) || !end.After(l.NotAfter) {
		t.Fatalf("renewed until %v after it was issued, %v", end.Sub(began), err)
	}
	l.NotAfter = end
	_, err = iss.Renew(t.Context(), l, s.NotAfter)
	if e, _ := errors.AsType[*cred.Error](err); cred.KindOf(err) != cred.Invalid || e.Reason != "MAX_TTL_REACHED" || !strings.Contains(e.Public, "max_ttl") {
		t.Errorf("renewed at its maximum: %v", err)
	}
	if err := w.works(t.Context(), c); err != nil {
		t.Errorf("the credential does not work until its maximum: %v", err)
	}
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Error(err)
	}
}

// What Vault answers 400 for is told apart.
func (w *world) testRenewTrouble(t *testing.T) {
	iss := newIssuer(t, w.config())
	c, l := w.issue(t, iss, brief(in(10*time.Minute)))
	w.JWTRole(t, "jwt", "norenew", "vault", []string{"norenew"}, nil)
	w.Policy(t, "norenew", strings.Replace(policy, `path "sys/leases/renew" { capabilities = ["update"] }`, `path "sys/leases/renew" { capabilities = ["deny"] }`, 1))
	cfg := w.config()
	cfg.JWT.Role = "norenew"
	if _, err := newIssuer(t, cfg).Renew(t.Context(), l, in(time.Minute)); cred.KindOf(err) != cred.Unavailable || !strings.Contains(cred.PublicText(err), "rights") {
		t.Errorf("without the right: %v", err)
	}
	w.Write(t, "database/roles/brief", peers.Data{"db_name": "pg", "renew_statements": []string{"SELECT 1/0;"}})
	if _, err := iss.Renew(t.Context(), l, in(time.Minute)); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("the database fails: %v, want kind unavailable", err)
	}
	w.Write(t, "database/roles/brief", peers.Data{"db_name": "pg", "renew_statements": []string{}})
	if _, err := iss.Renew(t.Context(), l, in(time.Minute)); err != nil {
		t.Errorf("the database is back: %v", err)
	}
	if err := w.works(t.Context(), c); err != nil {
		t.Error(err)
	}
	w.Write(t, "sys/leases/revoke-prefix/"+briefPath, peers.Data{"sync": true}) // somebody else
	_, err := iss.Renew(t.Context(), l, in(time.Minute))
	if e, _ := errors.AsType[*cred.Error](err); cred.KindOf(err) != cred.NotFound || e.Reason != "LEASE_UNKNOWN" {
		t.Errorf("somebody else revoked it: %v, want kind not_found", err)
	}
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Error(err)
	}
	w.wantAlive(t, 0)
}

// A revocation that comes while Vault works on a renewal leaves neither a user nor a lease.
func (w *world) testRenewSlow(t *testing.T) {
	w.Write(t, "database/roles/slowly", peers.Data{
		"db_name": "pg", "default_ttl": "30s", "max_ttl": "24h",
		"creation_statements": []string{`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}';`},
		"renew_statements":    []string{`SELECT pg_sleep(0.5);`},
	})
	iss := newIssuer(t, w.config())
	s := brief(in(10 * time.Minute))
	s.Target.Credential.Path = "database/creds/slowly"
	_, l := w.issue(t, iss, s)
	done := make(chan error, 1)
	go func() { _, err := iss.Renew(t.Context(), l, s.NotAfter); done <- err }()
	eventually(t, 5*time.Second, "PostgreSQL works on the renewal", func() bool {
		return w.pg.Exec(t.Context(), `select 1/count(*) from pg_stat_activity where state = 'active' and query like 'SELECT pg_sleep%'`) == nil
	})
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Errorf("Revoke: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Renew: %v", err)
	}
	leases, err := w.Leases(t.Context(), "database/creds/slowly")
	users, err2 := w.pg.Roles(t.Context())
	if len(leases)+len(users) > 0 || err != nil || err2 != nil {
		t.Errorf("left: leases %q, users %q; %v, %v", leases, users, err, err2)
	}
}

const renewableHandle = `{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database","end":%d,"lease":"db/creds/r/1"}`

// What is asked of Vault, and what of its answers is believed.
func TestRenewAnswers(t *testing.T) {
	known := `{"data":{"id":"db/creds/r/1","renewable":%v,"ttl":%d}}`
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		lookup http.HandlerFunc
		kind   cred.Kind // Internal: success
		reason string
		ends   time.Duration // where it went well
	}{
		"as asked":             {answer(`{"lease_id":"db/creds/r/1","renewable":true,"lease_duration":599}`), nil, cred.Internal, "", 599 * time.Second},
		"shorter":              {answer(`{"lease_id":"db/creds/r/1","renewable":true,"lease_duration":300}`), nil, cred.Internal, "", 300 * time.Second},
		"longer":               {answer(`{"lease_id":"db/creds/r/1","renewable":true,"lease_duration":86400}`), nil, cred.Internal, "", 600 * time.Second},
		"not a second more":    {answer(`{"lease_id":"db/creds/r/1","renewable":true,"lease_duration":60}`), nil, cred.Invalid, "MAX_TTL_REACHED", 0},
		"without a duration":   {answer(`{"lease_id":"db/creds/r/1","renewable":true}`), nil, cred.Unavailable, "", 0},
		"nothing":              {status(204, ``), nil, cred.Unavailable, "", 0},
		"not known":            {status(400, `{"errors":["lease not found"]}`), status(400, `{"errors":["invalid lease"]}`), cred.NotFound, "LEASE_UNKNOWN", 0},
		"not renewable":        {status(400, `{"errors":["lease is not renewable"]}`), answer(fmt.Sprintf(known, false, 60)), cred.Invalid, "NOT_RENEWABLE", 0},
		"over":                 {status(400, `{"errors":["lease expired"]}`), answer(fmt.Sprintf(known, true, 0)), cred.Invalid, "NOT_RENEWABLE", 0},
		"the source fails":     {status(400, `{"errors":["failed to renew entry"]}`), answer(fmt.Sprintf(known, true, 60)), cred.Unavailable, "", 0},
		"nobody knows":         {status(400, `{"errors":["x"]}`), status(403, `{"errors":["permission denied"]}`), cred.Unavailable, "", 0},
		"sealed":               {status(503, `{"errors":["Vault is sealed"]}`), nil, cred.Unavailable, "", 0},
		"no right":             {status(403, `{"errors":["permission denied"]}`), nil, cred.Unavailable, "", 0},
		"something else there": {answer(`<html>`), nil, cred.Unavailable, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, false)
			f.handle("PUT sys/leases/renew", tc.answer)
			if tc.lookup != nil {
				f.handle("PUT sys/leases/lookup", tc.lookup)
			}
			until := in(10 * time.Minute)
			l := cred.Lease{NotAfter: in(time.Minute), Handle: fmt.Sprintf(renewableHandle, until.Add(time.Hour).Unix())}
			began := time.Now()
			end, err := newIssuer(t, f.config()).Renew(t.Context(), l, until)
			if (err == nil) != (tc.kind == cred.Internal) || cred.KindOf(err) != tc.kind {
				t.Fatalf("%v, want kind %v", err, tc.kind)
			}
			if e, _ := errors.AsType[*cred.Error](err); err != nil && e.Reason != tc.reason {
				t.Errorf("reason %q, want %q", e.Reason, tc.reason)
			}
			if wrong := end.Sub(began) - tc.ends; err == nil && (wrong > 2*time.Second || wrong < -time.Second || end.After(until)) {
				t.Errorf("it ends %v from now, want %v", end.Sub(began), tc.ends)
			}
			if n := f.count(`PUT sys/leases/renew {"increment":599,"lease_id":"db/creds/r/1"}`); n == 0 {
				t.Errorf("asked %q", f.seen)
			}
		})
	}
}

// A revocation waits for the renewal of the same lease, within its own time.
func TestRevokeWaitsForRenewal(t *testing.T) {
	f := newFake(t, false)
	inside, release := make(chan struct{}), make(chan struct{})
	f.handle("PUT sys/leases/renew", func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-release
		answer(`{"lease_id":"db/creds/r/1","renewable":true,"lease_duration":600}`)(w, r)
	})
	iss := newIssuer(t, f.config())
	l := cred.Lease{Handle: fmt.Sprintf(renewableHandle, in(time.Hour).Unix())}
	renewed := make(chan error, 1)
	go func() { _, err := iss.Renew(t.Context(), l, in(time.Hour)); renewed <- err }()
	<-inside
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := iss.Revoke(short, l); cred.KindOf(err) != cred.Unavailable || f.count("PUT sys/leases/revoke") != 0 {
		t.Errorf("Revoke during a renewal: %v, asked %q", err, f.seen)
	}
	close(release)
	if err := <-renewed; err != nil {
		t.Errorf("Renew: %v", err)
	}
	if err := iss.Revoke(t.Context(), l); err != nil || f.count("PUT sys/leases/revoke") != 1 {
		t.Errorf("Revoke after the renewal: %v, asked %q", err, f.seen)
	}
}

// What can't be renewed, or needs not be, is not asked for.
func TestRenewDoesNotAsk(t *testing.T) {
	good := fmt.Sprintf(renewableHandle, in(time.Hour).Unix())
	for name, tc := range map[string]struct {
		handle   string
		notAfter time.Time
		until    time.Time
		kind     cred.Kind // Internal: success
	}{
		"no lease (kv, pki, ssh, a static role, STS)": {"", in(time.Minute), in(time.Hour), cred.Invalid},
		"reserved and no more":                        {strings.Replace(good, `,"lease":"db/creds/r/1"`, "", 1), in(time.Minute), in(time.Hour), cred.Invalid},
		"of an earlier version":                       {strings.Replace(good, `"end"`, `"lease":"x","accessor"`, 1), in(time.Minute), in(time.Hour), cred.Invalid},
		"its token's end is not known":                {`{"v":1,"accessor":"ca","path":"p","engine":"e","lease":"p/1"}`, in(time.Minute), in(time.Hour), cred.Invalid},
		"its token ends":                              {fmt.Sprintf(renewableHandle, time.Now().Unix()), in(time.Minute), in(time.Hour), cred.Invalid},
		"until the past":                              {good, time.Time{}, in(-time.Minute), cred.Invalid},
		"until now":                                   {good, time.Time{}, in(0), cred.Invalid}, // an increment of 0 is the role's default
		"it lives so long already":                    {good, in(30 * time.Minute), in(20 * time.Minute), cred.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			f.handle("PUT sys/leases/renew", answer(`{"lease_id":"db/creds/r/1","renewable":true,"lease_duration":600}`))
			end, err := newIssuer(t, f.config()).Renew(t.Context(), cred.Lease{Handle: tc.handle, NotAfter: tc.notAfter}, tc.until)
			if (err == nil) != (tc.kind == cred.Internal) || cred.KindOf(err) != tc.kind || (err == nil && !end.Equal(tc.notAfter)) {
				t.Errorf("%v, %v, want kind %v", end, err, tc.kind)
			}
			if e, _ := errors.AsType[*cred.Error](err); strings.Contains(name, "not known") && e.Reason != "NOT_RENEWABLE" {
				t.Errorf("reason %q", e.Reason)
			}
			if n := f.count("PUT sys/leases"); n != 0 {
				t.Errorf("Vault was asked: %q", f.seen)
			}
		})
	}
}

// Issue says of which leases a renewal makes sense.
func TestWhatIsRenewable(t *testing.T) {
	aws := `"data":{"access_key":"a","secret_key":"s","security_token":%s}}`
	for name, tc := range map[string]struct {
		spec, answer string
		want         bool
	}{
		"ends before its grant": {"database", `{"lease_id":"x/1","renewable":true,"lease_duration":60,"data":{"username":"u","password":"p"}}`, true},
		"as long as its grant":  {"database", `{"lease_id":"x/1","renewable":true,"lease_duration":3600,"data":{"username":"u","password":"p"}}`, false},
		"Vault says no":         {"database", `{"lease_id":"x/1","renewable":false,"lease_duration":60,"data":{"username":"u","password":"p"}}`, false},
		"no duration":           {"database", `{"lease_id":"x/1","renewable":true,"lease_duration":0,"data":{"username":"u","password":"p"}}`, false},
		"AWS IAM user":          {"aws", `{"lease_id":"x/1","renewable":true,"lease_duration":60,` + fmt.Sprintf(aws, "null"), true},
		"AWS STS":               {"aws", `{"lease_id":"x/1","renewable":true,"lease_duration":60,` + fmt.Sprintf(aws, `"t"`), false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, false)
			f.handle("GET x/creds/r", answer(tc.answer))
			_, l, err := newIssuer(t, f.config()).Issue(t.Context(), source("x/creds/r", tc.spec, nil))
			if err != nil || l.Renewable != tc.want {
				t.Errorf("renewable %v, %v", l.Renewable, err)
			}
		})
	}
}
