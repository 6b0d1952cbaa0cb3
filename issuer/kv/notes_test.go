package kv

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// The keys of RFC 7677, section 3: password "pencil", its salt and its iterations. TestPostgresContract
// shows that a server takes what we make.
func TestVerifierForm(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	got, err := verifierOf(cred.SecretString("pencil"), salt, 4096)
	want := "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
	a, _ := verifier(cred.SecretString("x"))
	b, _ := verifier(cred.SecretString("x"))
	if a == b || strings.ContainsAny(a, `'\"`) {
		t.Errorf("two verifiers: %s, %s", a, b)
	}
	if len(newPassword().Reveal()) < 26 {
		t.Error("a password of less than 128 bits")
	}
}

func TestNotesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := Values{}
		for name, value := range rapid.MapOf(rapid.String(), rapid.SliceOfN(rapid.Byte(), 1, 20)).Draw(t, "v") {
			v[strings.ToValidUTF8(name, "?")] = cred.NewSecret(value)
		}
		got, err := decode(encode(v))
		if err != nil || !same(v, got) {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestForeignNotesAreRefused(t *testing.T) {
	m := remember(plain("code", "x"))
	_, _, c := atDoor(t, "good")
	x := rotatorOf(t, m, c.opener(t))
	for _, notes := range []map[string]cred.Secret{
		nil, plain(noteOld, "x", noteVersion, "1"), plain(noteOld, "{}", noteVersion, "0"), plain(noteOld, "{}", noteNew, "1", noteVersion, "1"), plain(noteOld, "null", noteVersion, "1"),
	} {
		if _, err := x.Switch(t.Context(), issuer.Rotation{ID: "r", Attempt: 1, Notes: notes}); cred.KindOf(err) != cred.Internal || len(m.versions) != 1 {
			t.Errorf("%v: %v", notes, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":"Yg=="}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := decode(cred.NewSecret(text))
		if err != nil {
			return
		}
		if again, err := decode(encode(v)); err != nil || !same(v, again) {
			t.Errorf("%q: %v, %v", text, again, err)
		}
	})
}

func TestOutdated(t *testing.T) {
	for _, c := range []struct {
		current, keep int
		want          string
	}{{1, 1, "[]"}, {2, 1, "[1]"}, {5, 3, "[1 2]"}, {3, 5, "[]"}} {
		if got := fmt.Sprint(outdated(c.current, c.keep)); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if got := outdated(1000, 1); len(got) != maxVersions || got[len(got)-1] != 999 {
		t.Errorf("%d versions, the last %d", len(got), got[len(got)-1])
	}
}

func TestNewRefuses(t *testing.T) {
	_, m, c := atDoor(t, "good")
	good := Config{Keeper: m, Path: path, Opener: c.opener(t)}
	for name, change := range map[string]func(*Config){
		"keeper": func(c *Config) { c.Keeper = nil }, "opener": func(c *Config) { c.Opener = nil }, "path": func(c *Config) { c.Path = "" },
		"versions": func(c *Config) { c.KeepVersions = -1 }, "overlap": func(c *Config) { c.Overlap = -time.Second },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, bad := range []string{
		"", "postgres://", "db.example.com", "postgres://db.example.com/x", "postgres://db.example.com/x?sslmode=require", "postgres://u@db.example.com/x?sslmode=verify-full",
		"postgres://u:p@db.example.com/x?sslmode=verify-full", "postgres://db.example.com/x?sslmode=disable", "postgres://127.0.0.1/x?sslmode=prefer", "host=db.example.com sslmode=verify-full",
		"postgres://db.example.com/x?sslmode=verify-full&sslmode=disable", "postgres://db.example.com/x?sslmode=verify-full&user=x", "postgres://db.example.com/x?sslmode=verify-full&passfile=x",
		"postgres://db.example.com,other.example.com/x?sslmode=verify-full", "postgres://db.example.com/x?sslmode=verify-full&host=other.example.com", "postgres://db.example.com/x?sslmode=verify-full&service=x",
	} {
		if _, err := openDatabase(bad, true); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := openDatabase("postgres://127.0.0.1/x?sslmode=disable", false); cred.KindOf(err) != cred.Invalid {
		t.Errorf("plain text that is not allowed: %v", err)
	}
	t.Setenv("PGPASSWORD", "x")
	t.Setenv("PGOPTIONS", "-c log_statement=all")
	db, err := openDatabase("postgres://db.example.com:5433/orders?sslmode=verify-full", false)
	if err != nil || db.cfg.Host != "db.example.com" || db.cfg.Port != 5433 || db.cfg.TLSConfig == nil || db.cfg.TLSConfig.ServerName != "db.example.com" || db.cfg.TLSConfig.InsecureSkipVerify {
		t.Fatalf("%+v, %v", db.cfg, err)
	}
	if len(db.cfg.RuntimeParams) != 1 {
		t.Errorf("the environment has set %v", db.cfg.RuntimeParams)
	}
}

func TestPostgresConfig(t *testing.T) {
	admin := func(context.Context) (cred.Credential, error) { return cred.Credential{}, nil }
	good := Postgres{Address: "postgres://db.example.com/x?sslmode=verify-full", Roles: []string{"a", "b"}, Admin: admin}
	if _, err := good.Open(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Postgres){
		"one": func(p *Postgres) { p.Roles = []string{"a"} }, "same": func(p *Postgres) { p.Roles = []string{"a", "a"} }, "empty": func(p *Postgres) { p.Roles = []string{"a", ""} },
		"no admin": func(p *Postgres) { p.Admin = nil }, "role too": func(p *Postgres) { p.Role = "a" }, "address": func(p *Postgres) { p.Address = "x" },
	} {
		p := good
		change(&p)
		if _, err := p.Open(); cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
