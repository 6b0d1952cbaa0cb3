package identity_test

import (
	"context"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/cred"
)

// FuzzVerify holds Verify against go-oidc: whatever we accept it must accept too, with the same
// subject. The keys differ in each process, so the seeds are what was just forged.
func FuzzVerify(f *testing.F) {
	i := unserved(f)
	forged, err := i.Forge(audience)
	if err != nil {
		f.Fatal(err)
	}
	for n, t := range forged {
		if n%4 == 0 && len(t.Token) < 4000 {
			f.Add(t.Token)
		}
	}
	for _, g := range i.Siblings(audience) {
		f.Add(g.Token)
	}
	v := newVerifier(f, atNoon, provider(i))
	ctx := oidc.ClientContext(context.Background(), i.Client())
	reference, err := oidc.NewProvider(ctx, i.URL())
	if err != nil {
		f.Fatal(err)
	}
	lenient := reference.VerifierContext(ctx, &oidc.Config{ClientID: audience, SkipExpiryCheck: true})
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), token)
		if err != nil {
			refused(t, err, token, cred.Unauthenticated)
			return
		}
		other, err := lenient.Verify(ctx, token)
		if err != nil {
			t.Fatalf("accepted, which go-oidc refuses: %v", err)
		}
		if other.Subject != got.Principal.Subject || got.Principal.Issuer != i.URL() || got.Principal.Provider != "example" || !utf8.ValidString(got.Principal.Name) {
			t.Fatalf("principal %+v, but go-oidc reads the subject %q", got, other.Subject)
		}
	})
}

// FuzzClaims signs whatever claims the fuzzer makes, so that it gets beyond the signature.
func FuzzClaims(f *testing.F) {
	i := unserved(f)
	p := provider(i)
	p.GroupsClaim = "groups"
	p.RefuseClaims = map[string][]string{"event_name": {"workflow_run"}}
	p.CautionClaims = map[string][]string{"trigger": {"fork"}}
	p.EndClaim = identity.Path{"kubernetes.io", "warnafter"}
	v := newVerifier(f, atNoon, p)
	for _, seed := range []string{`"groups":["a"]`, `"nbf":1`, `"sub":"b"`, `"event_name":["workflow_run"]`, `"aud":["https://daypass.example.com"]`, `"_claim_names":{"groups":"x"}`, `"name":"\u202e"`, `"trigger":"fork"`, `"kubernetes.io":{"warnafter":1795176100}`, `"jti":"a"`, `"auth_time":1795175000`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, members string) {
		token := i.SignRaw([]byte(`{"iss":"`+i.URL()+`","sub":"a","aud":"`+audience+`","iat":1795176000,"exp":1795176300,`+members+`}`), "EdDSA")
		got, err := v.Verify(t.Context(), token)
		if err != nil {
			refused(t, err, token, cred.Unauthenticated)
			return
		}
		checkAccepted(t, i.URL(), got.Principal)
		checkTimes(t, got)
	})
}

// checkTimes fails unless an accepted token still counts, and no longer than the fixed claims let it.
func checkTimes(t *testing.T, got identity.Verified) {
	t.Helper()
	if !got.ExpiresAt.After(noon) || got.ExpiresAt.After(noon.Add(330*time.Second)) || !got.IssuedAt.Equal(noon) {
		t.Fatalf("the fuzzed members changed the times: %+v", got)
	}
	if got.AuthTime.After(noon.Add(30 * time.Second)) {
		t.Fatalf("signed in later than now: %+v", got)
	}
}

// checkAccepted fails unless an accepted principal keeps what the fixed claims said, and groups are
// unknown where they are said to be elsewhere.
func checkAccepted(t *testing.T, issuer string, who cred.Principal) {
	t.Helper()
	if who.Issuer != issuer || who.Subject != "a" || who.Claims["aud"] != audience || who.Kind != cred.KindPerson {
		t.Fatalf("the fuzzed members changed the principal: %+v", who)
	}
	if who.Claims["event_name"] == "workflow_run" {
		t.Fatalf("a refused event was accepted: %+v", who)
	}
	if (who.Claims["trigger"] == "fork") != (who.Cautions["trigger"] == "fork") {
		t.Fatalf("the caution is not what the claim says: %+v", who)
	}
	if names, ok := who.Claims["_claim_names"].(map[string]any); ok && names["groups"] != nil && who.Groups != nil {
		t.Fatalf("groups that stand elsewhere were read: %+v", who)
	}
	if _, listed := who.Claims["groups"].([]any); who.Groups != nil && !listed {
		t.Fatalf("groups came from nowhere: %+v", who)
	}
}
