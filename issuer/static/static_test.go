package static_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/issuer/static"
)

func spec(notAfter time.Time) issuer.Spec {
	return issuer.Spec{
		ID: cred.NewLeaseID(time.Now()), Grant: cred.NewGrantID(time.Now()), NotAfter: notAfter,
		Target: cred.Target{Name: "x", Deliver: cred.DeliverProxy, Credential: cred.CredentialSource{Path: "x"}},
	}
}

func write(t *testing.T, file, value string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(file, []byte(value), mode), os.Chmod(file, mode)); err != nil {
		t.Fatal(err)
	}
}

func parse(t *testing.T, reference string) static.Loader {
	t.Helper()
	load, err := static.Parse(reference)
	if err != nil {
		t.Fatal(err)
	}
	return load
}

func TestContract(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write(t, file, "the key\n", 0o600)
	secrets := map[string]map[string]static.Loader{"x": {"token": parse(t, "file:"+file)}}
	issuertest.Test(t, issuertest.Harness{
		New:  func(*testing.T, string) issuer.Issuer { return static.New(secrets) },
		Spec: spec,
		Works: func(_ context.Context, c cred.Credential) error {
			if c.Fields["token"].RevealString() != "the key" {
				return errors.New("not the key")
			}
			return nil
		},
		Alive:        func(context.Context) (int, error) { return 1, nil },
		NotRevocable: true, Stands: true,
	})
}

func TestChangedFileIsPickedUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	iss := static.New(map[string]map[string]static.Loader{"x": {"token": parse(t, "file:"+file)}})
	for _, want := range []string{"one", "two"} {
		write(t, file, want+"\n", 0o400)
		_ = os.Chmod(file, 0o600)
		c, l, err := iss.Issue(t.Context(), spec(time.Now().Add(time.Minute)))
		if err != nil || c.Fields["token"].RevealString() != want {
			t.Errorf("got %q, %v, want %q", c.Fields["token"].RevealString(), err, want)
		}
		if l.Revocable || l.Handle != "" || l.Note == "" || !c.NotAfter.IsZero() {
			t.Errorf("lease %+v", l)
		}
	}
}

func TestTypesAndNames(t *testing.T) {
	t.Setenv("DAYPASS_TEST_A", "a")
	t.Setenv("DAYPASS_TEST_B", "b")
	a, b := parse(t, "env:DAYPASS_TEST_A"), parse(t, "env:DAYPASS_TEST_B")
	type loaders = map[string]static.Loader
	for name, tc := range map[string]struct {
		secret loaders
		source cred.CredentialSource
		kind   cred.CredentialType
		want   map[string]string
	}{
		"bearer":  {loaders{"token": a}, cred.CredentialSource{}, cred.Bearer, map[string]string{"token": "a"}},
		"user":    {loaders{"username": a, "password": b}, cred.CredentialSource{}, cred.UserPassword, map[string]string{"username": "a", "password": "b"}},
		"aws":     {loaders{"access_key_id": a, "secret_access_key": b}, cred.CredentialSource{}, cred.AWS, map[string]string{"access_key_id": "a", "secret_access_key": "b"}},
		"tls":     {loaders{"certificate": a, "private_key": b}, cred.CredentialSource{}, cred.TLS, map[string]string{"certificate": "a", "private_key": "b"}},
		"other":   {loaders{"key": a}, cred.CredentialSource{}, cred.KV, map[string]string{"key": "a"}},
		"renamed": {loaders{"key": a}, cred.CredentialSource{Fields: map[string]string{"token": "key"}}, cred.Bearer, map[string]string{"token": "a"}},
		"swapped": {
			loaders{"username": a, "password": b},
			cred.CredentialSource{Fields: map[string]string{"username": "password", "password": "username"}},
			cred.UserPassword,
			map[string]string{"username": "b", "password": "a"},
		},
		"typed": {loaders{"key": a}, cred.CredentialSource{Type: cred.Bearer, Fields: map[string]string{"token": "key"}}, cred.Bearer, map[string]string{"token": "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(time.Now().Add(time.Minute))
			s.Target.Credential = tc.source
			c, _, err := static.New(map[string]map[string]static.Loader{"": tc.secret}).Issue(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for name, v := range c.Fields {
				got[name] = v.RevealString()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || c.Type != tc.kind {
				t.Errorf("type %q, fields (-want +got):\n%s", c.Type, diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"group": 0o640, "all": 0o604, "good": 0o600} {
		write(t, filepath.Join(dir, name), "value", mode)
	}
	write(t, filepath.Join(dir, "empty"), "\n", 0o600)
	write(t, filepath.Join(dir, "long"), strings.Repeat("a", 65<<10), 0o600)
	good := spec(time.Now().Add(time.Minute))
	direct, elsewhere, ended, field := good, good, good, good
	direct.Target.Deliver = cred.DeliverDirect
	elsewhere.Target.Credential.Path = "y"
	ended.NotAfter = time.Now()
	field.Target.Credential.Fields = map[string]string{"token": "nosuch"}
	for name, tc := range map[string]struct {
		file string
		spec issuer.Spec
		kind cred.Kind
	}{
		"open to the group":  {"group", good, cred.Unavailable},
		"open to all":        {"all", good, cred.Unavailable},
		"not there":          {"nosuch", good, cred.Unavailable},
		"a folder":           {".", good, cred.Unavailable},
		"empty":              {"empty", good, cred.Unavailable},
		"too long":           {"long", good, cred.Unavailable},
		"direct delivery":    {"good", direct, cred.Invalid},
		"unknown path":       {"good", elsewhere, cred.Invalid},
		"nothing left":       {"good", ended, cred.Invalid},
		"field is not there": {"good", field, cred.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			load := parse(t, "file:"+filepath.Join(dir, tc.file))
			_, _, err := static.New(map[string]map[string]static.Loader{"x": {"token": load}}).Issue(t.Context(), tc.spec)
			if cred.KindOf(err) != tc.kind || (tc.kind == cred.Unavailable) != errors.Is(err, issuer.ErrNotIssued) {
				t.Errorf("%v, want kind %v", err, tc.kind)
			}
			if strings.Contains(cred.PublicText(err), dir) {
				t.Errorf("the public text names the file: %q", cred.PublicText(err))
			}
		})
	}
	if _, err := parse(t, "env:DAYPASS_TEST_NOT_SET")(t.Context()); err == nil {
		t.Error("a variable that is not set has a value")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, reference := range []string{"", "the-secret-itself", "file:", "env:", "http://x", "FILE:/x"} {
		load, err := static.Parse(reference)
		if cred.KindOf(err) != cred.Invalid || load != nil {
			t.Errorf("%q: %v", reference, err)
		} else if reference == "the-secret-itself" && strings.Contains(err.Error(), reference) {
			t.Errorf("the error shows what may be a secret: %v", err)
		}
	}
}
