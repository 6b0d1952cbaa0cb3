package audit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

const marker = "do-not-log-me"

// Neither a lease's handle nor an error's cause may reach the log, whatever shape they come in.
func TestNothingPrivateIsLogged(t *testing.T) {
	lease := cred.NewLease("le_1", "gr_1", "holder", "vault", "database/creds/orders/"+marker, testTime, testTime.Add(time.Hour))
	issued, err := lease.Issued(marker+"/handle", cred.SecretString(marker).Fingerprint(), true, testTime)
	if err != nil {
		t.Fatal(err)
	}
	inner := &cred.Error{Kind: cred.Unavailable, Op: marker, Public: "Vault does not answer", Reason: "VAULT_DOWN", Err: errors.New(marker)}
	for name, e := range map[string]Event{
		"intent":         {Lease: LeaseOf(lease)},
		"issued":         {Lease: LeaseOf(issued)},
		"our error":      {Error: ErrorOf(inner)},
		"wrapped":        {Error: ErrorOf(fmt.Errorf("%s: %w", marker, inner))},
		"joined":         {Error: ErrorOf(errors.Join(errors.New(marker), inner))},
		"somebody's":     {Error: ErrorOf(errors.New(marker))},
		"internal":       {Error: ErrorOf(&cred.Error{Kind: cred.Internal, Op: marker, Public: marker})},
		"a secret claim": {Principal: PrincipalOf(cred.Principal{Claims: map[string]any{"c": cred.SecretString(marker)}})},
	} {
		t.Run(name, func(t *testing.T) {
			e.Kind, e.Time = "k", testTime
			l := newTestLog(t, e)
			for _, f := range Formats {
				if out := l.export(f, nil); strings.Contains(string(out), marker) {
					t.Errorf("%s: %s", f, out)
				}
			}
		})
	}
}

func TestLeaseOf(t *testing.T) {
	lease := cred.NewLease("le_1", "gr_1", "holder", "vault", "", testTime, testTime.Add(time.Hour))
	if got := LeaseOf(lease); got.HandleFingerprint != "" || got.SecretFingerprint != "" {
		t.Errorf("fingerprints of nothing: %+v", got)
	}
	issued, err := lease.Issued("h", cred.SecretString("s").Fingerprint(), false, testTime)
	if err != nil {
		t.Fatal(err)
	}
	want := &Lease{
		ID: "le_1", Redeemer: "holder", Issuer: "vault", State: "issued", NotAfter: testTime,
		HandleFingerprint: cred.SecretString("h").Fingerprint().String(),
		SecretFingerprint: cred.SecretString("s").Fingerprint().String(),
	}
	if diff := cmp.Diff(want, LeaseOf(issued)); diff != "" {
		t.Error(diff)
	}
}

func TestErrorOf(t *testing.T) {
	denied := &cred.Error{Kind: cred.Denied, Public: "no", Reason: "NO_RULE_MATCHES"}
	for _, c := range []struct {
		err  error
		want Error
	}{
		{denied, Error{"denied", "NO_RULE_MATCHES", "no"}},
		{fmt.Errorf("x: %w", denied), Error{"denied", "NO_RULE_MATCHES", "no"}},
		{errors.New("x"), Error{"internal", "", cred.PublicText(nil)}},
	} {
		if diff := cmp.Diff(c.want, *ErrorOf(c.err)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestPrincipalAndRequestOf(t *testing.T) {
	got := PrincipalOf(cred.Principal{
		Provider: "okta", Issuer: "i", Subject: "s", Name: "n", Kind: cred.KindPerson, Groups: []string{"g"},
		Claims: map[string]any{"c": true}, Cautions: map[string]string{"c": "v"}, Actor: &cred.Principal{Subject: "a", Actor: &cred.Principal{Subject: "b"}},
	})
	want := &Principal{
		Provider: "okta", Issuer: "i", Subject: "s", Name: "n", Kind: cred.KindPerson, Groups: []string{"g"},
		Claims: map[string]any{"c": true}, Cautions: map[string]string{"c": "v"}, Actor: &Principal{Subject: "a", Actor: &Principal{Subject: "b"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	req := cred.Request{
		Target: "t", Scopes: []string{"s"}, Params: map[string]string{"p": "v"}, TTL: 90 * time.Second, Reason: "r", Binding: cred.BindMTLS, IdempotencyKey: marker,
	}
	digest := req.Digest(cred.Principal{})
	wantReq := &Request{Target: "t", Scopes: []string{"s"}, Params: map[string]string{"p": "v"}, TTLSeconds: 90, Reason: "r", Binding: "mtls", Digest: digest.String()}
	if diff := cmp.Diff(wantReq, RequestOf(req, digest)); diff != "" {
		t.Error(diff)
	}
}

func TestApprovalsOf(t *testing.T) {
	got := ApprovalsOf(
		cred.Approval{
			By: cred.Principal{Subject: "lead", Actor: &cred.Principal{Subject: "a"}}, Groups: []string{"leads"},
			Verdict: cred.Verdict{Approve: true, Comment: "ok"}, Digest: cred.Digest{1}, At: testTime, Standing: "sa_1",
		},
		cred.Approval{By: cred.Principal{Subject: "boss"}},
	)
	want := []Approval{
		{
			By: Principal{Subject: "lead", Actor: &Principal{Subject: "a"}}, Groups: []string{"leads"}, Approve: true, Comment: "ok",
			Digest: cred.Digest{1}.String(), At: testTime, Standing: "sa_1",
		},
		{By: Principal{Subject: "boss"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := PrincipalOf(cred.Principal{}); got.Groups != nil {
		t.Error("unknown groups became none")
	}
	if got := PrincipalOf(cred.Principal{Groups: []string{}}); got.Groups == nil {
		t.Error("no groups became unknown")
	}
}
