package vault_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

// Live tells what PostgreSQL and Vault have, that of others included.
func (w *world) testLive(t *testing.T) {
	iss := newIssuer(t, w.config())
	_, one := w.issue(t, iss, spec(in(10*time.Minute)))
	_, two := w.issue(t, iss, brief(in(10*time.Minute)))
	other, err := w.Client.Logical().ReadWithContext(t.Context(), path) // as root
	if err != nil {
		t.Fatal(err)
	}
	want := []string{iss.NameOf(one), iss.NameOf(two), other.LeaseID}
	slices.Sort(want)
	got, err := iss.Live(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, names (-want +got):\n%s", err, diff)
	}
	for _, l := range []cred.Lease{one, two} {
		if err := iss.Revoke(t.Context(), l); err != nil {
			t.Error(err)
		}
	}
	if got, err := iss.Live(t.Context()); err != nil || !slices.Equal(got, []string{other.LeaseID}) {
		t.Errorf("after Revoke %q, %v, want %q", got, err, other.LeaseID)
	}
	if err := w.Client.Sys().RevokeWithContext(t.Context(), other.LeaseID); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "nothing is listed", func() bool { got, err := iss.Live(t.Context()); return err == nil && len(got) == 0 })

	cfg := w.config()
	cfg.Paths = []string{"database/creds/nosuch", "secret/apps/x"}
	if got, err := newIssuer(t, cfg).Live(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("paths without leases: %q, %v", got, err)
	}
	w.Policy(t, "unseeing", strings.Replace(policy, `"list", "sudo"`, `"list"`, 1))
	w.JWTRole(t, "jwt", "unseeing", "vault", []string{"unseeing"}, nil)
	cfg = w.config()
	cfg.JWT.Role = "unseeing"
	_, err = newIssuer(t, cfg).Live(t.Context())
	if e, _ := errors.AsType[*cred.Error](err); cred.KindOf(err) != cred.Denied || e.Reason != "LIST_FORBIDDEN" || !strings.Contains(e.Public, "list and sudo") {
		t.Errorf("without sudo: %v, want denied, LIST_FORBIDDEN", err)
	}
}

func TestLiveAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    []string
		kind    cred.Kind // Internal: success
	}{
		"none":               {status(404, `{"errors":[]}`), nil, cred.Internal},
		"some":               {answer(`{"request_id":"r","data":{"key_info":{"b":{"x":[1]}},"keys":["b","a"]},"warnings":null}`), []string{"db/creds/r/a", "db/creds/r/b"}, cred.Internal},
		"with folders":       {answer(`{"data":{"keys":["a","other/"]}}`), []string{"db/creds/r/a"}, cred.Internal},
		"an empty list":      {answer(`{"data":{"keys":[]}}`), nil, cred.Internal},
		"no such path":       {status(404, `{"errors":["no handler for route \"sys/leases/lookup/db/creds/r/\". route entry not found."]}`), nil, cred.Unavailable},
		"forbidden":          {status(403, `{"errors":["permission denied"]}`), nil, cred.Denied},
		"sealed":             {status(503, `{"errors":["sealed"]}`), nil, cred.Unavailable},
		"without keys":       {answer(`{"data":{}}`), nil, cred.Unavailable},
		"keys of other data": {answer(`{"keys":["a"],"data":null}`), nil, cred.Unavailable},
		"not a list":         {answer(`{"data":{"keys":"a"}}`), nil, cred.Unavailable},
		"not names":          {answer(`{"data":{"keys":["a",7]}}`), nil, cred.Unavailable},
		"cut short":          {answer(`{"data":{"keys":["a","b"`), nil, cred.Unavailable},
		"no JSON":            {answer(`<html>`), nil, cred.Unavailable},
		"nothing":            {answer(``), nil, cred.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, false)
			f.handle("GET sys/leases/lookup/db/creds/r", tc.handler)
			cfg := f.config()
			cfg.Paths = []string{"db/creds/r", "db/creds/r"} // as two targets name it
			got, err := newIssuer(t, cfg).Live(t.Context())
			if (err == nil) != (tc.kind == cred.Internal) || cred.KindOf(err) != tc.kind || !slices.Equal(got, tc.want) {
				t.Errorf("%q, %v, want %q, kind %v", got, err, tc.want, tc.kind)
			}
		})
	}
}

// An error of a later path leaves no part of a list.
func TestLiveIsWholeOrNothing(t *testing.T) {
	f := newFake(t, false)
	f.handle("GET sys/leases/lookup/db/creds/r", answer(`{"data":{"keys":["a"]}}`))
	f.handle("GET sys/leases/lookup/db/creds/q", status(403, `{"errors":["permission denied"]}`))
	cfg := f.config()
	cfg.Paths = []string{"db/creds/r", "db/creds/q"}
	if got, err := newIssuer(t, cfg).Live(t.Context()); err == nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestLiveManyNames(t *testing.T) {
	const many = 100_000
	var body bytes.Buffer
	body.WriteString(`{"data":{"keys":[`)
	for n := range many {
		if n > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `"h4ndle%018d"`, n)
	}
	body.WriteString(`]}}`)
	for _, size := range []int{1, 2} { // the second is longer than any other answer may be
		f := newFake(t, false)
		padded := strings.ReplaceAll(body.String(), `"h4ndle`, `"`+strings.Repeat("h4ndle", size*8-7))
		f.handle("GET sys/leases/lookup/db/creds/r", answer(padded))
		cfg := f.config()
		cfg.Paths, cfg.Timeout = []string{"db/creds/r"}, 30*time.Second
		got, err := newIssuer(t, cfg).Live(t.Context())
		if err != nil || len(got) != many {
			t.Fatalf("%d names of %d bytes: %d came, %v", many, len(padded), len(got), err)
		}
		if first := got[0]; !strings.HasPrefix(first, "db/creds/r/h4ndle") {
			t.Errorf("the first is %q", first)
		}
	}
}

// What is listed has a name, also where nobody can end it: or it would be a stray.
func TestStandingLeaseIsListedByItsName(t *testing.T) {
	for name, answered := range map[string]string{
		"aws/sts/r":          `{"lease_id":"aws/sts/r/1","lease_duration":900,"data":{"access_key":"a","secret_key":"s","security_token":"t"}}`,
		"kubernetes/creds/r": `{"lease_id":"kubernetes/creds/r/1","lease_duration":600,"data":{"service_account_name":"builder","service_account_token":"t"}}`,
	} {
		f := newFake(t, false)
		engine, _, _ := strings.Cut(name, "/")
		f.handle("PUT "+name, answer(answered))
		f.handle("GET sys/leases/lookup/"+name, answer(`{"data":{"keys":["1"]}}`))
		cfg := f.config()
		cfg.Paths = []string{name}
		iss := newIssuer(t, cfg)
		_, l, err := iss.Issue(t.Context(), source(name, engine, map[string]string{"method": "write"}))
		if err != nil {
			t.Fatal(err)
		}
		live, err := iss.Live(t.Context())
		if err != nil || !slices.Equal(live, []string{iss.NameOf(l)}) {
			t.Errorf("%q is listed, %v, and the lease is known as %q", live, err, iss.NameOf(l))
		}
	}
}

// A path that is added later is listed and named from then on, and one that is taken out no more.
func TestSetPaths(t *testing.T) {
	f := newFake(t, false)
	f.handle("GET sys/leases/lookup/db/creds/r", answer(`{"data":{"keys":["1"]}}`))
	f.handle("GET sys/leases/lookup/db/creds/q", answer(`{"data":{"keys":["2"]}}`))
	cfg := f.config()
	cfg.Paths = []string{"db/creds/r"}
	iss := newIssuer(t, cfg)
	added := cred.Lease{Handle: `{"v":1,"accessor":"ca","path":"db/creds/q","engine":"database","lease":"db/creds/q/2"}`}
	for _, tc := range []struct{ paths, live []string }{
		{nil, []string{"db/creds/r/1"}},
		{[]string{"db/creds/r", "db/creds/q"}, []string{"db/creds/q/2", "db/creds/r/1"}},
		{[]string{"db/creds/r"}, []string{"db/creds/r/1"}},
	} {
		if tc.paths != nil {
			iss.SetPaths(tc.paths)
		}
		got, err := iss.Live(t.Context())
		if err != nil || !slices.Equal(got, tc.live) || slices.Contains(got, "db/creds/q/2") != (iss.NameOf(added) != "") {
			t.Errorf("with %q: %q, %v, want %q; the name is %q", tc.paths, got, err, tc.live, iss.NameOf(added))
		}
	}
}

// A lease that Live does not list has no name, or it would look as if it were gone.
func TestNameOf(t *testing.T) {
	f := newFake(t, false)
	cfg := f.config()
	cfg.Paths = []string{"db/creds/r"}
	iss := newIssuer(t, cfg)
	for handle, want := range map[string]string{
		`{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database","lease":"db/creds/r/1"}`:         "db/creds/r/1",
		`{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database","end":7,"lease":"db/creds/r/1"}`: "db/creds/r/1",
		`{"v":1,"accessor":"ca","path":"db/creds/r","engine":"database"}`:                                "",
		`{"v":1,"accessor":"ca","path":"db/creds/q","engine":"database","lease":"db/creds/q/1"}`:         "",
		`{"v":2}`: "", "": "",
	} {
		if got := iss.NameOf(cred.Lease{Handle: handle}); got != want {
			t.Errorf("%s: %q, want %q", handle, got, want)
		}
	}
}
