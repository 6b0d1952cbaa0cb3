package aws_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/aws"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

const owner = "vault-root"

// addKey gives a user a key of some age and returns it as a credential.
func (c *cloud) addKey(user string, age time.Duration) cred.Credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users[user] == nil {
		c.users[user] = map[string]accessKey{}
	}
	id, key := "AKIA"+rand.Text()[:16], accessKey{rand.Text() + "/x", "Active", time.Now().Add(-age).Truncate(time.Second).UTC()}
	c.users[user][id] = key
	return cred.Credential{Type: cred.AWS, Fields: map[string]cred.Secret{"access_key_id": cred.SecretString(id), "secret_access_key": cred.SecretString(key.secret)}}
}

func idOf(c cred.Credential) string { return c.Fields["access_key_id"].RevealString() }

func keysConfig(base, user string, with cred.Credential) aws.KeysConfig {
	return aws.KeysConfig{
		Endpoint: base, AllowPlain: true, User: user, Timeout: 5 * time.Second,
		Credentials: func(context.Context) (cred.Credential, error) { return with, nil },
	}
}

func openKeys(t testing.TB, cfg aws.KeysConfig) *aws.AccessKeys {
	t.Helper()
	k, err := aws.NewAccessKeys(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func TestListAndDelete(t *testing.T) {
	for name, user := range map[string]string{"by name": owner, "the signer's own": ""} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			with, old := c.addKey(owner, time.Hour), c.addKey(owner, 2*time.Hour)
			other := c.addKey("somebody", time.Hour)
			off := c.users[owner][idOf(old)]
			off.status = "Inactive"
			c.users[owner][idOf(old)] = off
			k := openKeys(t, keysConfig(c.URL, user, with))
			got, err := k.List(t.Context())
			want := []issuer.AccessKey{
				{ID: idOf(old), Created: off.created}, {ID: idOf(with), Created: c.users[owner][idOf(with)].created, Active: true},
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
			for range 2 { // the second time it is gone already
				if err := k.Delete(t.Context(), idOf(old)); err != nil {
					t.Errorf("Delete: %v", err)
				}
			}
			if err := k.Delete(t.Context(), idOf(other)); err != nil {
				t.Errorf("Delete of another user's key: %v", err)
			}
			if len(c.users[owner]) != 1 || len(c.users["somebody"]) != 1 {
				t.Errorf("left: %d keys of the user, %d of another", len(c.users[owner]), len(c.users["somebody"]))
			}
		})
	}
}

func TestKeysOnSeveralPages(t *testing.T) {
	c := newCloud(t)
	c.pageSize = 1
	with := c.addKey(owner, 0)
	c.addKey(owner, time.Hour)
	c.addKey(owner, time.Minute)
	k := openKeys(t, keysConfig(c.URL, owner, with))
	got, err := k.List(t.Context())
	if err != nil || len(got) != 3 || !slices.IsSortedFunc(got, func(a, b issuer.AccessKey) int { return a.Created.Compare(b.Created) }) {
		t.Errorf("got %v, %v", got, err)
	}
	c.addKey(owner, time.Minute)
	c.addKey(owner, time.Minute)
	if _, err := k.List(t.Context()); cred.KindOf(err) != unavailable {
		t.Errorf("a list without an end: %v", err)
	}
}

func TestDeleteRefuses(t *testing.T) {
	c := newCloud(t)
	with := c.addKey(owner, 0)
	k := openKeys(t, keysConfig(c.URL, owner, with))
	if err := k.Delete(t.Context(), idOf(with)); cred.KindOf(err) != cred.Conflict || len(c.users[owner]) != 1 {
		t.Errorf("the key that signs: %v", err)
	}
	if err := k.Delete(t.Context(), "x y"); cred.KindOf(err) != invalid {
		t.Errorf("no ID: %v", err)
	}
	nobody := openKeys(t, keysConfig(c.URL, "nobody", with))
	if err := nobody.Delete(t.Context(), "AKIA"+strings.Repeat("A", 16)); cred.KindOf(err) != cred.NotFound {
		t.Errorf("a user who does not exist: %v", err)
	}
	c.isRoot[owner] = true
	mine := openKeys(t, keysConfig(c.URL, "", with))
	if err := mine.Delete(t.Context(), "AKIA"+strings.Repeat("A", 16)); cred.KindOf(err) != invalid || !strings.Contains(cred.PublicText(err), "root") {
		t.Errorf("the root user: %v", err)
	}
}

// TestDeleteInBothForms: a key is deleted, or not, and the answer is lost; a second call settles it.
func TestDeleteInBothForms(t *testing.T) {
	for _, fault := range []issuertest.Fault{issuertest.NotDone, issuertest.DoneLost} {
		t.Run(fault.String(), func(t *testing.T) {
			c := newCloud(t)
			with, old := c.addKey(owner, 0), c.addKey(owner, time.Hour)
			front := issuertest.NewFront(t, c.URL)
			k := openKeys(t, keysConfig(front.URL, owner, with))
			front.Break(fault, 1)
			if err := k.Delete(t.Context(), idOf(old)); cred.KindOf(err) != unavailable || errors.Is(err, issuer.ErrNotIssued) {
				t.Errorf("a lost answer: %v", err)
			}
			if err := k.Delete(t.Context(), idOf(old)); err != nil || len(c.users[owner]) != 1 {
				t.Errorf("again: %v, %d keys left", err, len(c.users[owner]))
			}
		})
	}
}

func TestKeysDeadline(t *testing.T) {
	c := newCloud(t)
	front := issuertest.NewFront(t, c.URL)
	front.Break(issuertest.Silent, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := openKeys(t, keysConfig(front.URL, owner, c.addKey(owner, 0))).List(ctx); cred.KindOf(err) != unavailable || time.Since(began) > 3*time.Second {
		t.Errorf("got %v after %v", err, time.Since(began))
	}
}

func TestKeysAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		kind   cred.Kind
		reason string
		undone bool // for certain
	}{
		"not yet known":     {403, "InvalidClientTokenId", unavailable, "KEY_UNKNOWN", true},
		"a wrong secret":    {403, "SignatureDoesNotMatch", unavailable, "KEY_UNKNOWN", true},
		"ended":             {403, "ExpiredToken", unavailable, "CLOCK_SKEWED", true},
		"may not":           {403, "AccessDenied", cred.Denied, "SOURCE_REFUSED", true},
		"no such user":      {404, "NoSuchEntity", cred.NotFound, "", true},
		"still changing":    {409, "EntityTemporarilyUnmodifiable", unavailable, "", true},
		"throttled":         {400, "Throttling", unavailable, "", true},
		"not a user's keys": {400, "ValidationError", invalid, "SOURCE_REFUSED", true},
		"500":               {500, "ServiceFailure", unavailable, "", false},
		"a redirect":        {307, "", unavailable, "", false},
		"something else":    {200, "", unavailable, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCloud(t)
			with := cl.addKey(owner, 0)
			front := issuertest.NewFront(t, cl.URL)
			front.Answer(9, func(*http.Request) bool { return true }, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				cl.fail(w, iamNS, c.status, c.code, "no")
			}))
			err := openKeys(t, keysConfig(front.URL, owner, with)).Delete(t.Context(), "AKIA"+strings.Repeat("A", 16))
			e, ok := errors.AsType[*cred.Error](err)
			if !ok || e.Kind != c.kind || e.Reason != c.reason || e.Public == "" {
				t.Fatalf("got %v, want kind %v and reason %q", err, c.kind, c.reason)
			}
			if undone := c.kind != unavailable || errors.Is(err, issuer.ErrNotIssued); undone != c.undone {
				t.Errorf("says that nothing was done: %v, want %v", undone, c.undone)
			}
		})
	}
}

// TestKeysClock: AWS refuses a signature that is more than five minutes off as if it were wrong.
func TestKeysClock(t *testing.T) {
	c := newCloud(t)
	c.ahead = -10 * time.Minute
	_, err := openKeys(t, keysConfig(c.URL, owner, c.addKey(owner, 0))).List(t.Context())
	wantNotIssued(t, err, "CLOCK_SKEWED")
}

func TestKeysOddAnswers(t *testing.T) {
	for name, edit := range map[string]func(string) string{
		"another user's key": func(s string) string { return strings.Replace(s, "<member><UserName>"+owner, "<member><UserName>x", 1) },
		"no date":            func(s string) string { return strings.Replace(s, "<CreateDate>", "<CreateDate>x", 1) },
		"no ID":              func(s string) string { return strings.Replace(s, "<AccessKeyId>", "<AccessKeyId>-", 1) },
		"no list":            func(s string) string { return strings.ReplaceAll(s, "AccessKeyMetadata", "X") },
		"no end":             func(s string) string { return strings.ReplaceAll(s, "IsTruncated", "X") },
		"more, but where":    func(s string) string { return strings.Replace(s, ">false<", ">true<", 1) },
		"another answer":     func(s string) string { return strings.ReplaceAll(s, "ListAccessKeysResponse", "GetUserResponse") },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.edit = edit
			keys, err := openKeys(t, keysConfig(c.URL, owner, c.addKey(owner, 0))).List(t.Context())
			if cred.KindOf(err) != unavailable || keys != nil {
				t.Errorf("got %v, %v", keys, err)
			}
		})
	}
}

func TestKeysCredentials(t *testing.T) {
	c := newCloud(t)
	for name, give := range map[string]func(context.Context) (cred.Credential, error){
		"none":         func(context.Context) (cred.Credential, error) { return cred.Credential{}, errors.New("none") },
		"another type": func(context.Context) (cred.Credential, error) { return cred.Credential{Type: cred.Bearer}, nil },
		"half":         func(context.Context) (cred.Credential, error) { return cred.Credential{Type: cred.AWS}, nil },
	} {
		cfg := keysConfig(c.URL, owner, cred.Credential{})
		cfg.Credentials = give
		_, err := openKeys(t, cfg).List(t.Context())
		if name == "none" {
			wantNotIssued(t, err, "")
		} else if cred.KindOf(err) != invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(c.seen) > 0 {
		t.Errorf("AWS was asked %d times", len(c.seen))
	}
}

// TestKeysOfASession: a session's credentials sign with their session token.
func TestKeysOfASession(t *testing.T) {
	c := newCloud(t)
	with := c.addKey(owner, 0)
	with.Fields["session_token"] = cred.SecretString("IQoJ" + rand.Text())
	if _, err := openKeys(t, keysConfig(c.URL, owner, with)).List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.seenHeaders[0].Get("X-Amz-Security-Token"); got != with.Fields["session_token"].RevealString() {
		t.Errorf("sent the session token %q", got)
	}
	if auth := c.seenHeaders[0].Get("Authorization"); !strings.Contains(auth, "x-amz-security-token") {
		t.Errorf("the session token is not signed: %s", auth)
	}
	with.Fields["secret_access_key"] = cred.SecretString("wrong")
	_, err := openKeys(t, keysConfig(c.URL, owner, with)).List(t.Context())
	if text := fmt.Sprint(err); strings.Contains(text, with.Fields["session_token"].RevealString()) || !strings.Contains(text, "x-amz-security-token:[redacted]") {
		t.Errorf("the error says %s", text)
	}
}

func TestKeysConfig(t *testing.T) {
	good := aws.KeysConfig{Region: "cn-north-1", Credentials: func(context.Context) (cred.Credential, error) { return cred.Credential{}, nil }}
	if _, err := aws.NewAccessKeys(good); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*aws.KeysConfig){
		"no place":           func(c *aws.KeysConfig) { c.Region = "" },
		"http":               func(c *aws.KeysConfig) { c.Endpoint = "http://127.0.0.1:1" },
		"no credentials":     func(c *aws.KeysConfig) { c.Credentials = nil },
		"an odd user":        func(c *aws.KeysConfig) { c.User = "a/b" },
		"a negative timeout": func(c *aws.KeysConfig) { c.Timeout = -1 },
	} {
		cfg := good
		edit(&cfg)
		if _, err := aws.NewAccessKeys(cfg); cred.KindOf(err) != invalid {
			t.Errorf("%s: got %v, want kind invalid", name, err)
		}
	}
}
