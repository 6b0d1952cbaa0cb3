package vault_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

func wrapped(path string) issuer.Spec {
	s := spec(in(time.Minute))
	s.Target.Credential = cred.CredentialSource{Path: path, Params: map[string]string{"wrap": "30s"}}
	return s
}

func (w *world) testWrap(t *testing.T) {
	w.KV(t, "apps/wrapped", peers.Data{"token": "one"})
	front := issuertest.NewFront(t, w.URL)
	cfg := w.config()
	cfg.Address = front.URL
	iss := newIssuer(t, cfg)
	c, l := w.issue(t, iss, wrapped(path))
	if n := front.Reached("PUT /v1/sys/wrapping/unwrap"); n != 1 {
		t.Errorf("unwrapped %d times", n)
	}
	if err := iss.Revoke(t.Context(), l); err != nil {
		t.Error(err)
	}
	if err := w.works(t.Context(), c); err == nil {
		t.Error("the user can sign in after Revoke")
	}
	c, _, err := iss.Issue(t.Context(), wrapped("secret/apps/wrapped"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"token": "one"}, reveal(c)); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"0s", "1", "-1s", "10m", "1500ms", "yes"} {
		s := wrapped(path)
		s.Target.Credential.Params["wrap"] = bad
		if _, err := iss.Reserve(t.Context(), s); cred.KindOf(err) != cred.Invalid {
			t.Errorf("wrap %q: %v, want kind invalid", bad, err)
		}
	}
	w.wantAlive(t, 0)
	t.Run("somebody between", w.testWrapAlarms)
}

// A thief on the way who opens, exchanges or takes off the wrapping is noticed, and has nothing.
func (w *world) testWrapAlarms(t *testing.T) {
	to, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		where string
		how   http.Handler
	}{
		"opens it before the look":   {"sys/wrapping/lookup", w.thief(t, to)},
		"opens it after the look":    {"sys/wrapping/unwrap", w.thief(t, to)},
		"puts his own in its place":  {path, w.forger(t)},
		"asks without the wrapping":  {path, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Header.Del("X-Vault-Wrap-TTL") }, Transport: &http.Transport{DisableKeepAlives: true}}},
		"lets nobody open it (once)": {"sys/wrapping/unwrap", trouble(400, "wrapping token is not valid or does not exist", "")},
	} {
		t.Run(name, func(t *testing.T) {
			front := issuertest.NewFront(t, w.URL)
			cfg := w.config()
			cfg.Address = front.URL
			iss := newIssuer(t, cfg)
			front.Answer(1, at(tc.where), tc.how)
			s := wrapped(path)
			s.Target.Credential.Params["wrap"] = "2s"
			if s.Handle, err = iss.Reserve(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			_, _, err := iss.Issue(t.Context(), s)
			e, ok := errors.AsType[*cred.Error](err)
			if !ok || e.Kind != cred.Unavailable || e.Reason != "UNWRAP_FAILED" || errors.Is(err, issuer.ErrNotIssued) {
				t.Errorf("%v, want an alarm of kind unavailable", err)
			}
			if err := iss.Revoke(t.Context(), cred.Lease{Handle: s.Handle}); err != nil {
				t.Errorf("Revoke: %v", err)
			}
			if users, err := w.pg.Roles(t.Context()); err != nil || len(users) > 0 {
				t.Errorf("users %q are left, %v", users, err)
			}
		})
	}
	// Vault lists a wrapping that nobody opened as a lease of the path, until it ends by itself.
	eventually(t, 15*time.Second, "no lease is left", func() bool { n, err := w.alive(t.Context()); return err == nil && n == 0 })
	t.Run("the answer to unwrap is lost", func(t *testing.T) {
		f := newFake(t, false)
		f.handle("GET db/creds/r", answer(`{"wrap_info":{"token":"wt","ttl":30,"creation_path":"db/creds/r"}}`))
		f.handle("PUT sys/wrapping/lookup", answer(`{"data":{"creation_path":"db/creds/r"}}`))
		f.handle("PUT sys/wrapping/unwrap", status(502, ``))
		s := source("db/creds/r", "database", map[string]string{"wrap": "30s"})
		_, _, err := newIssuer(t, f.config()).Issue(t.Context(), s)
		if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Unavailable || e.Reason != "" || errors.Is(err, issuer.ErrNotIssued) {
			t.Errorf("%v, want unavailable and no alarm", err)
		}
		if n := f.count("PUT sys/wrapping/unwrap"); n != 1 {
			t.Errorf("unwrapped %d times", n)
		}
		for n, line := range f.seen {
			if want := map[bool]string{true: "30s"}[line == "GET db/creds/r"]; f.heads[n].Get("X-Vault-Wrap-TTL") != want {
				t.Errorf("%s: asked to wrap for %q, want %q", line, f.heads[n].Get("X-Vault-Wrap-TTL"), want)
			}
			if line == "PUT sys/wrapping/unwrap null" && f.heads[n].Get("X-Vault-Token") != "wt" {
				t.Errorf("unwrapped with the token %q", f.heads[n].Get("X-Vault-Token"))
			}
		}
	})
}

// thief opens the wrapping that passes and then lets the request go on.
func (w *world) thief(t *testing.T, to *url.URL) http.Handler {
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: &http.Transport{DisableKeepAlives: true}}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		asked := struct{ Token string }{r.Header.Get("X-Vault-Token")}
		if asked.Token == "" {
			_ = json.Unmarshal(body, &asked)
		}
		stolen, err := w.As(asked.Token).Logical().UnwrapWithContext(r.Context(), "")
		if err != nil || stolen == nil || stolen.Data["password"] == nil && stolen.Data["secret_id"] == nil {
			t.Errorf("the thief got %v, %v", stolen, err)
		}
		forward.ServeHTTP(rw, r)
	})
}

// forger answers with a wrapping of his own, of something that looks like what was asked for.
func (w *world) forger(t *testing.T) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		client := w.As(w.RootToken)
		client.SetWrappingLookupFunc(func(string, string) string { return "30s" })
		own, err := client.Logical().WriteWithContext(r.Context(), "sys/wrapping/wrap", peers.Data{"username": "u", "password": "p"})
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = fmt.Fprintf(rw, `{"wrap_info":{"token":%q,"ttl":30,"creation_path":%q}}`, own.WrapInfo.Token, path)
	})
}
