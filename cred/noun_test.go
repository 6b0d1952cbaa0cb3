package cred_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
)

func TestIDs(t *testing.T) {
	for prefix, fresh := range map[string]func(time.Time) string{
		"gr": func(t time.Time) string { return string(cred.NewGrantID(t)) },
		"le": func(t time.Time) string { return string(cred.NewLeaseID(t)) },
		"us": func(t time.Time) string { return string(cred.NewUseID(t)) },
		"sa": cred.NewStandingID,
		"lk": cred.NewLockID,
	} {
		format := regexp.MustCompile(`^` + prefix + `_[0-9a-hjkmnp-tv-z]{26}$`)
		seen := make(map[string]bool)
		var inOrder []string
		for ms := range 3000 {
			id := fresh(instant.Add(time.Duration(ms) * 97 * time.Millisecond))
			if !format.MatchString(id) {
				t.Fatalf("%q is not of the form %s", id, format)
			}
			inOrder = append(inOrder, id)
			for range 3 {
				again := fresh(instant)
				if seen[again] {
					t.Fatalf("%s came twice", again)
				}
				seen[again] = true
			}
		}
		if !slices.IsSorted(inOrder) {
			t.Errorf("%s: identifiers are not in order of time", prefix)
		}
	}
	var ages []cred.GrantID
	for _, year := range []int{1970, 2030, 2100, 2500, 2600, 3000, 5000, 9999} {
		ages = append(ages, cred.NewGrantID(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)))
	}
	if !slices.IsSorted(ages) {
		t.Errorf("over the ages, identifiers are not in order of time: %q", ages)
	}
}

// Eighty bits are random: two identifiers of one instant share nothing but the time.
func TestIDsOfOneInstantDiffer(t *testing.T) {
	a, b := string(cred.NewGrantID(instant)), string(cred.NewGrantID(instant))
	same := 0
	for i := len(a) - 16; i < len(a); i++ {
		if a[i] == b[i] {
			same++
		}
	}
	if same > 8 {
		t.Errorf("%s and %s have %d of 16 random characters in common", a, b, same)
	}
}

func TestKinds(t *testing.T) {
	all := []cred.Kind{cred.Internal, cred.Invalid, cred.Unauthenticated, cred.Denied, cred.NotFound, cred.Pending, cred.Expired, cred.Conflict, cred.Exhausted, cred.Unavailable}
	names := make(map[string]bool)
	for _, k := range all {
		names[k.String()] = true
		err := fmt.Errorf("outer: %w", &cred.Error{Kind: k, Op: "op", Public: "public"})
		if cred.KindOf(err) != k {
			t.Errorf("KindOf %s is %s", k, cred.KindOf(err))
		}
	}
	if len(names) != len(all) || cred.Kind(200).String() != "internal" {
		t.Errorf("names %v, and the unknown kind is %s", names, cred.Kind(200))
	}
	if cred.KindOf(errors.New("x")) != cred.Internal || cred.KindOf(nil) != cred.Internal {
		t.Error("an error that nobody classified is not internal")
	}
}

func TestRetryAfter(t *testing.T) {
	full := &cred.Error{Kind: cred.Exhausted, RetryAfter: time.Second}
	for _, test := range []struct {
		err  error
		wait time.Duration
	}{
		{full, time.Second},
		{fmt.Errorf("outer: %w", full), time.Second},
		{&cred.Error{Kind: cred.Unavailable, Err: full}, 0}, // what an inner error says is not for the caller
		{&cred.Error{Kind: cred.Exhausted}, 0},
		{&cred.Error{Kind: cred.Exhausted, RetryAfter: -1}, 0},
		{errors.New("x"), 0},
		{nil, 0},
	} {
		if wait, known := cred.RetryAfter(test.err); wait != test.wait || known != (test.wait > 0) {
			t.Errorf("%v: %s, %v", test.err, wait, known)
		}
	}
}

const fixed = "internal fault"

func TestPublicTextNeverHoldsTheCause(t *testing.T) {
	const cause = "dial tcp 192.0.2.7:8200: connection refused"
	inner := errors.New(cause)
	denied := &cred.Error{Kind: cred.Denied, Op: "exchange", Public: "no rule allows this", Err: inner}
	tests := map[string]struct {
		err  error
		want string
	}{
		"ours":                       {denied, "no rule allows this"},
		"wrapped":                    {fmt.Errorf("%s: %w", cause, denied), "no rule allows this"},
		"joined":                     {errors.Join(inner, denied), "no rule allows this"},
		"not ours":                   {inner, fixed},
		"nil":                        {nil, fixed},
		"internal":                   {&cred.Error{Op: "op", Public: cause, Err: inner}, fixed},
		"internal around denied":     {&cred.Error{Kind: cred.Internal, Op: cause, Err: denied}, fixed},
		"without a text":             {&cred.Error{Kind: cred.Unavailable, Op: cause, Err: inner}, fixed},
		"without a text around ours": {&cred.Error{Kind: cred.Unavailable, Err: denied}, fixed},
		"formatted":                  {cred.Errorf(cred.Unavailable, "op", "try later", "x: %w", inner), "try later"},
	}
	for name, test := range tests {
		got := cred.PublicText(test.err)
		if !strings.Contains(got, test.want) || strings.Contains(got, "192.0.2.7") {
			t.Errorf("%s: public text %q, want %q", name, got, test.want)
		}
	}
	if text := denied.Error(); !strings.Contains(text, cause) || !strings.Contains(text, "exchange: denied: no rule") {
		t.Errorf("our own log gets %q", text)
	}
	if !errors.Is(cred.Errorf(cred.Invalid, "op", "p", "x: %w", inner), inner) {
		t.Error("the cause can't be found")
	}
}

func TestCredentialFingerprint(t *testing.T) {
	one := cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": secret()}}
	if one.Fingerprint() != secret().Fingerprint() {
		t.Error("a credential of one field has another fingerprint than its field")
	}
	pair := func(user, password string) cred.Fingerprint {
		return cred.Credential{Fields: map[string]cred.Secret{"username": cred.SecretString(user), "password": cred.SecretString(password)}}.Fingerprint()
	}
	seen := map[cred.Fingerprint]bool{pair("a", "b"): true, pair("b", "a"): true, pair("ab", ""): true, pair("", "ab"): true, pair("a", "c"): true, {}: true}
	if len(seen) != 6 {
		t.Errorf("%d fingerprints of 6 credentials", len(seen))
	}
	first := pair("a", "b")
	for range 50 {
		if again := pair("a", "b"); again != first {
			t.Fatal("the fingerprint follows the order of a map")
		}
	}
}

func TestFingerprintText(t *testing.T) {
	f := secret().Fingerprint()
	var back cred.Fingerprint
	if err := back.UnmarshalText([]byte(f.String())); err != nil || back != f || f.IsZero() {
		t.Errorf("%s came back as %s, %v", f, back, err)
	}
	if err := back.UnmarshalText(nil); err != nil || !back.IsZero() || back.String() != "" {
		t.Errorf("nothing came back as %q, %v", back.String(), err)
	}
	for _, bad := range []string{"0", "00", "xyz", f.String() + "00"} {
		if err := back.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a fingerprint", bad)
		}
	}
}

func TestPrincipal(t *testing.T) {
	p := cred.Principal{Provider: "p", Issuer: "i", Subject: "s", Groups: []string{"g"}, Claims: map[string]any{"k": "v"}, Cautions: map[string]string{"k": "v"}, Actor: &cred.Principal{Subject: "a", Groups: []string{"h"}}}
	c := p.Clone()
	c.Groups[0], c.Claims["k"], c.Cautions["k"], c.Actor.Subject, c.Actor.Groups[0] = "x", "x", "x", "x", "x"
	if p.Groups[0] != "g" || p.Claims["k"] != "v" || p.Cautions["k"] != "v" || p.Actor.Subject != "a" || p.Actor.Groups[0] != "h" {
		t.Errorf("a change to the clone changed %+v", p)
	}
	if !p.Same(c) {
		t.Error("a clone is somebody else")
	}
	for _, other := range []cred.Principal{{Provider: "q", Issuer: "i", Subject: "s"}, {Provider: "p", Issuer: "j", Subject: "s"}, {Provider: "p", Issuer: "i", Subject: "t"}} {
		if p.Same(other) {
			t.Errorf("%+v is taken for %+v", other, p)
		}
	}
}

// Groups that are unknown stay unknown, and none stay none: a rule may ask for the difference.
func TestUnknownGroupsAreNotNone(t *testing.T) {
	for text, groups := range map[string][]string{
		`{"provider":"","issuer":"","subject":"s"}`:                nil,
		`{"provider":"","issuer":"","subject":"s","groups":[]}`:    {},
		`{"provider":"","issuer":"","subject":"s","groups":["g"]}`: {"g"},
	} {
		b, err := json.Marshal(cred.Principal{Subject: "s", Groups: groups}.Clone())
		if err != nil || string(b) != text {
			t.Errorf("%#v is written as %s, %v", groups, b, err)
		}
		var back cred.Principal
		if err := json.Unmarshal(b, &back); err != nil || !slices.Equal(back.Groups, groups) || (back.Groups == nil) != (groups == nil) {
			t.Errorf("%s is read as %#v, %v", b, back.Groups, err)
		}
	}
}
