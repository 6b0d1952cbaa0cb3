package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

const path = "orders/db"

// plain returns fields as secrets.
func plain(pairs ...string) Values {
	v := Values{}
	for n := 0; n < len(pairs); n += 2 {
		v[pairs[n]] = cred.SecretString(pairs[n+1])
	}
	return v
}

// stage is a PostgreSQL with the roles that the tests rotate.
type stage struct {
	pg   *peers.PostgresServer
	pair bool
}

func newStage(t testing.TB, pg *peers.PostgresServer, pair bool) stage {
	s := stage{pg, pair}
	sql := `DO $$ BEGIN
 CREATE ROLE orders_rights; CREATE ROLE orders_a LOGIN; CREATE ROLE orders_b LOGIN;
 GRANT orders_rights TO orders_a, orders_b;
 EXCEPTION WHEN duplicate_object THEN NULL; END $$`
	if err := pg.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	return s
}

// fresh sets what stands before a rotation and returns the secret.
func (s stage) fresh(t testing.TB) Values {
	t.Helper()
	password := newPassword().RevealString()
	for _, sql := range []string{"ALTER ROLE orders_a PASSWORD '" + password + "'", "ALTER ROLE orders_b PASSWORD NULL"} {
		if err := s.pg.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return plain("username", "orders_a", "password", password, "host", "db.example.com")
}

func (s stage) opener(t testing.TB, address string, admin bool) Opener {
	t.Helper()
	p := Postgres{Address: address, AllowPlain: true}
	if s.pair {
		p.Roles = []string{"orders_a", "orders_b"}
	}
	if s.pair || admin {
		p.Admin = func(context.Context) (cred.Credential, error) {
			return cred.Credential{Type: cred.UserPassword, Fields: plain("username", s.pg.User, "password", s.pg.Password)}, nil
		}
	}
	o, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func rotatorOf(t testing.TB, k Keeper, o Opener) issuer.Rotator {
	t.Helper()
	r, err := New(Config{Keeper: k, Path: path, Opener: o})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// login logs in with what a Keeper holds now.
func (s stage) login(ctx context.Context, k Keeper) error {
	v, _, err := k.ReadKV(ctx, path)
	if err != nil {
		return err
	}
	return s.pg.Login(ctx, v["username"].RevealString(), v["password"].RevealString())
}

// through does all acts of a rotation, each with the same rotator, and wants no error.
func through(t testing.TB, x issuer.Rotator, r issuer.Rotation) issuer.Rotation {
	t.Helper()
	findings, err := x.Check(t.Context(), r)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	for _, f := range findings {
		if !f.OK {
			t.Fatalf("finding %s: %s", f.Name, f.Text)
		}
	}
	if r, err = x.Prepare(t.Context(), r); err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	if r, err = x.Switch(t.Context(), r); err != nil {
		t.Fatalf("Switch: %v", err)
	}
	if err = x.Verify(t.Context(), r); err != nil {
		t.Fatalf("Verify: %v", err)
	}
	if r, err = x.Retire(t.Context(), r); err != nil {
		t.Fatalf("Retire: %v", err)
	}
	return r
}

func rotation(n int) issuer.Rotation {
	return issuer.Rotation{ID: fmt.Sprintf("rot-%d", n), Attempt: 1, Began: time.Now()}
}

// The whole contract, with a real Vault, a real PostgreSQL, and faults between us and Vault.
func TestPostgresContract(t *testing.T) {
	pg, vault := peers.Postgres(t), peers.Vault(t)
	direct := keeperAt(t, vault, vault.URL)
	for _, pair := range []bool{false, true} {
		t.Run(map[bool]string{false: "one role", true: "two roles"}[pair], func(t *testing.T) {
			s := newStage(t, pg, pair)
			opener := s.opener(t, directAddress(pg), false)
			var known []Values
			issuertest.TestRotator(t, issuertest.RotatorHarness{
				Source: vault.URL,
				New:    func(t *testing.T, url string) issuer.Rotator { return rotatorOf(t, keeperAt(t, vault, url), opener) },
				Fresh: func(t *testing.T) {
					v := s.fresh(t)
					known = []Values{v}
					_ = direct.kv.DeleteMetadata(t.Context(), path)
					if _, err := direct.WriteKV(t.Context(), path, v, 0); err != nil {
						t.Fatal(err)
					}
				},
				Root: func(ctx context.Context) (string, error) {
					v, _, err := direct.ReadKV(ctx, path)
					if err == nil && v["host"].RevealString() != "db.example.com" {
						return "", errors.New("a field that is none of ours has changed")
					}
					known = append(known, v)
					return v["username"].RevealString() + v["password"].Fingerprint().String(), err
				},
				Works: func(ctx context.Context) error { return s.login(ctx, direct) },
				Alive: func(ctx context.Context) (alive int, err error) {
					works := map[string]bool{}
					for _, v := range known {
						if pg.Login(ctx, v["username"].RevealString(), v["password"].RevealString()) == nil {
							works[v["password"].RevealString()] = true
						}
					}
					return len(works), nil
				},
				Secrets: func(context.Context) (all []string) {
					for _, v := range known {
						all = append(all, v["password"].RevealString())
					}
					return all
				},
			})
		})
	}
}

// Each message to PostgreSQL is lost, before and after it was done, in Switch and in what comes after.
func TestPostgresFaults(t *testing.T) {
	pg := peers.Postgres(t)
	for _, pair := range []bool{false, true} {
		for _, admin := range []bool{false, true} {
			if pair && !admin {
				continue
			}
			s := newStage(t, pg, pair)
			for _, fault := range []issuertest.Fault{issuertest.NotDone, issuertest.DoneLost} {
				for _, back := range []bool{false, true} {
					t.Run(fmt.Sprintf("pair %v, admin %v, undo %v, %v", pair, admin, back, fault), func(t *testing.T) {
						for n := 1; s.faultAt(t, fault, n, admin, back); n++ {
							if n > 60 {
								t.Fatal("more than 60 messages")
							}
						}
					})
				}
			}
		}
	}
}

// untilKnown calls an act again while it may have been done, as the broker does: PostgreSQL may still be at
// the commit of the try that was cut, and then refuses another one beside it (XX000, "tuple concurrently
// updated").
func untilKnown(act func(try int) error) error {
	for try := 1; ; try++ {
		if err := act(try); cred.KindOf(err) != cred.Unavailable || try == 5 {
			return err
		}
	}
}

// faultAt breaks the nth message of a Switch and reports whether there were so many. Then the
// rotation goes on, or back.
func (s stage) faultAt(t *testing.T, fault issuertest.Fault, n int, admin, back bool) bool {
	w := newWire(t, s.pg)
	old := s.fresh(t)
	m := remember(old)
	broken, direct := rotatorOf(t, m, s.opener(t, w.address(s.pg), admin)), rotatorOf(t, m, s.opener(t, directAddress(s.pg), admin))
	r, err := direct.Prepare(t.Context(), rotation(n))
	if err != nil {
		t.Fatal(err)
	}
	w.breakAt(fault, n)
	next, err := broken.Switch(t.Context(), r)
	came := w.came()
	if err != nil && cred.KindOf(err) != cred.Unavailable {
		t.Fatalf("message %d: %v, want kind unavailable", n, err)
	}
	if back {
		if err := untilKnown(func(int) error { return direct.Undo(t.Context(), r) }); err != nil {
			t.Fatalf("message %d: Undo: %v", n, err)
		}
		if v, _, _ := m.ReadKV(t.Context(), path); !same(v, old) || s.login(t.Context(), m) != nil {
			t.Fatalf("message %d: the old login is not back", n)
		}
		return came
	}
	if err != nil {
		err = untilKnown(func(try int) (err error) {
			r.Attempt = 1 + try
			next, err = direct.Switch(t.Context(), r)
			return err
		})
		if err != nil {
			t.Fatalf("message %d: Switch again: %v", n, err)
		}
	}
	if err := direct.Verify(t.Context(), next); err != nil {
		t.Fatalf("message %d: Verify: %v", n, err)
	}
	if _, err := direct.Retire(t.Context(), next); err != nil {
		t.Fatalf("message %d: Retire: %v", n, err)
	}
	if s.pg.Login(t.Context(), "orders_a", old["password"].RevealString()) == nil {
		t.Fatalf("message %d: the old login still works", n)
	}
	if got := m.left(); !slices.Equal(got, []int{2}) {
		t.Fatalf("message %d: versions %v are left, want 2 alone", n, got)
	}
	return came
}

// PostgreSQL falls silent at each message.
func TestPostgresSilence(t *testing.T) {
	pg := peers.Postgres(t)
	s := newStage(t, pg, false)
	patience := 700 * time.Millisecond
	for n := 1; ; n++ {
		w := newWire(t, pg)
		m := remember(s.fresh(t))
		x := rotatorOf(t, m, s.opener(t, w.address(pg), true))
		r, err := x.Prepare(t.Context(), rotation(n))
		if err != nil {
			t.Fatal(err)
		}
		w.breakAt(issuertest.Silent, n)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		began := time.Now()
		_, err = x.Switch(ctx, r)
		cancel()
		if !w.came() {
			if err == nil {
				break // those were all messages
			}
			if patience *= 2; patience > time.Minute { // it was too short for this machine
				t.Fatalf("message %d did not come, and Switch failed: %v", n, err)
			}
			n--
			continue
		}
		if took := time.Since(began); took > patience+4*time.Second || err != nil && cred.KindOf(err) != cred.Unavailable {
			t.Errorf("message %d: %v after %v", n, err, took)
		}
		if n > 60 {
			t.Fatal("more than 60 messages")
		}
	}
}

// The broker's machine is gone at the commit, and PostgreSQL is not told. It holds the role's lock no longer
// than the broker would have waited for it, so another broker goes on; without that it would be TCP that
// ends the old transaction, after two hours.
func TestPostgresOutlivesTheBrokersMachine(t *testing.T) {
	pg := peers.Postgres(t)
	for _, c := range []struct {
		name        string
		pair, admin bool
	}{{"one role", false, true}, {"one role by itself", false, false}, {"two roles", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			s, w := newStage(t, pg, c.pair), newWire(t, pg)
			old := s.fresh(t)
			m := remember(old)
			gone, other := rotatorOf(t, m, s.opener(t, w.address(pg), c.admin)), rotatorOf(t, m, s.opener(t, directAddress(pg), c.admin))
			r, err := gone.Prepare(t.Context(), rotation(1))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			var vanished bool
			w.vanishAtCommit(func() { vanished = true; cancel() })
			if _, err := gone.Switch(ctx, r); cred.KindOf(err) != cred.Unavailable || !vanished {
				t.Fatalf("Switch: %v, want kind unavailable at the commit (%v)", err, vanished)
			}
			if pg.Login(t.Context(), "orders_a", old["password"].RevealString()) != nil {
				t.Error("the old login does not work although nothing was committed")
			}
			r.Attempt = 2
			ctx, cancel = context.WithTimeout(t.Context(), pgTimeout)
			defer cancel()
			if r, err = other.Switch(ctx, r); err != nil {
				t.Fatalf("Switch by another broker: %v", err)
			}
			if err := errors.Join(other.Verify(t.Context(), r), s.login(t.Context(), m)); err != nil {
				t.Error(err)
			}
			if _, err := other.Retire(t.Context(), r); err != nil {
				t.Errorf("Retire: %v", err)
			}
		})
	}
}

// The writes to KV fail in each form.
func TestPostgresKVWriteFails(t *testing.T) {
	pg := peers.Postgres(t)
	for _, pair := range []bool{false, true} {
		s := newStage(t, pg, pair)
		for fail, kind := range map[string]cred.Kind{"not done": cred.Unavailable, "lost": cred.Unavailable, "refused": cred.Conflict, "other wrote": cred.Conflict} {
			t.Run(fmt.Sprintf("pair %v, %s", pair, fail), func(t *testing.T) {
				old := s.fresh(t)
				m := remember(old)
				x := rotatorOf(t, m, s.opener(t, directAddress(pg), false))
				r, err := x.Prepare(t.Context(), rotation(1))
				if err != nil {
					t.Fatal(err)
				}
				m.failWrite = fail
				if _, err = x.Switch(t.Context(), r); cred.KindOf(err) != kind {
					t.Fatalf("Switch: %v, want kind %v", err, kind)
				}
				if pg.Login(t.Context(), "orders_a", old["password"].RevealString()) != nil {
					t.Error("the old login does not work although nothing was committed")
				}
				if kind == cred.Conflict {
					return
				}
				if r, err = x.Switch(t.Context(), r); err != nil {
					t.Fatalf("Switch again: %v", err)
				}
				if err := errors.Join(x.Verify(t.Context(), r), s.login(t.Context(), m)); err != nil {
					t.Error(err)
				}
				if len(m.versions) != 2 {
					t.Errorf("%d versions, want 2", len(m.versions))
				}
			})
		}
		t.Run("a client that repeats itself", func(t *testing.T) {
			m := remember(s.fresh(t))
			m.failWrite = "twice"
			through(t, rotatorOf(t, m, s.opener(t, directAddress(pg), false)), rotation(1))
		})
	}
}

// Nobody who reads KV at any instant is ever refused, while two roles take turns.
func TestTwoRolesNeverRefuseAReader(t *testing.T) {
	pg := peers.Postgres(t)
	s := newStage(t, pg, true)
	m := remember(s.fresh(t))
	rotator, err := New(Config{Keeper: m, Path: path, Opener: s.opener(t, directAddress(pg), true), Overlap: time.Hour, KeepVersions: 2})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var reads int
	var reader sync.WaitGroup
	mid := make(chan struct{}, 1)
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			select { // nobody reads before and spends after Retire: that is what Overlap is for
			case mid <- struct{}{}:
			case <-stop:
				return
			}
			if err := s.login(t.Context(), m); err != nil {
				t.Errorf("a reader was refused: %v", err)
			}
			reads++
			<-mid
		}
	})
	for n := range 6 {
		r := rotation(n)
		if r, err = rotator.Prepare(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if r, err = rotator.Switch(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(r.RetireAfter); left < 50*time.Minute || left > time.Hour {
			t.Errorf("the old login is retired in %v, want an hour", left)
		}
		mid <- struct{}{} // the overlap: who has read the old login has spent it
		_, err = rotator.Retire(t.Context(), r)
		<-mid
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	reader.Wait()
	if reads == 0 {
		t.Error("nobody read")
	}
	if got := m.left(); !slices.Equal(got, []int{6, 7}) {
		t.Errorf("versions %v are left, want 6 and 7", got)
	}
	t.Logf("%d reads", reads)
}

// The clear password goes over no wire and stands in no statement.
func TestPasswordIsNeverSent(t *testing.T) {
	pg := peers.Postgres(t)
	for _, pair := range []bool{false, true} {
		s := newStage(t, pg, pair)
		w := newWire(t, pg)
		m := remember(s.fresh(t))
		through(t, rotatorOf(t, m, s.opener(t, w.address(pg), false)), rotation(1))
		v, _, _ := m.ReadKV(t.Context(), path)
		if w.holds(v["password"].RevealString()) {
			t.Error("the new password was sent to PostgreSQL")
		}
		if !w.holds("SCRAM-SHA-256$4096:") {
			t.Error("no verifier was sent")
		}
	}
}

func TestPostgresCheckFinds(t *testing.T) {
	pg := peers.Postgres(t)
	s := newStage(t, pg, true)
	for _, c := range []struct {
		name, sql, back, finding string
	}{
		{"other rights", "REVOKE orders_rights FROM orders_b", "GRANT orders_rights TO orders_b", "same rights"},
		{"no login", "ALTER ROLE orders_b NOLOGIN", "ALTER ROLE orders_b LOGIN", "may log in"},
		{"another attribute", "ALTER ROLE orders_b CREATEDB", "ALTER ROLE orders_b NOCREATEDB", "same rights"},
		{"no such role", "ALTER ROLE orders_b RENAME TO orders_x", "ALTER ROLE orders_x RENAME TO orders_b", "may change"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := remember(s.fresh(t))
			if err := pg.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = pg.Exec(context.WithoutCancel(t.Context()), c.back) }()
			findings, err := rotatorOf(t, m, s.opener(t, directAddress(pg), true)).Check(t.Context(), rotation(1))
			if err != nil {
				t.Fatal(err)
			}
			if bad := failing(findings); !slices.Equal(bad, []string{c.finding}) {
				t.Errorf("findings %v, want %s: %+v", bad, c.finding, findings)
			}
		})
	}
	t.Run("a secret that does not work", func(t *testing.T) {
		s.fresh(t)
		m := remember(plain("username", "orders_a", "password", "wrong"))
		findings, err := rotatorOf(t, m, s.opener(t, directAddress(pg), true)).Check(t.Context(), rotation(1))
		if err != nil || !slices.Equal(failing(findings), []string{"works"}) {
			t.Errorf("findings %+v, %v", findings, err)
		}
	})
	t.Run("a third role", func(t *testing.T) {
		m := remember(plain("username", pg.User, "password", pg.Password))
		findings, err := rotatorOf(t, m, s.opener(t, directAddress(pg), true)).Check(t.Context(), rotation(1))
		if err != nil || !slices.Equal(failing(findings), []string{"roles"}) {
			t.Errorf("findings %+v, %v", findings, err)
		}
	})
}

func failing(findings []cred.Finding) (names []string) {
	for _, f := range findings {
		if !f.OK {
			names = append(names, f.Name)
		}
	}
	return names
}

// A role's name is data.
func TestRoleNamesAreQuoted(t *testing.T) {
	pg := peers.Postgres(t)
	name, password := `odd"; DROP ROLE x; --`, newPassword()
	if err := pg.Exec(t.Context(), `CREATE ROLE "`+strings.ReplaceAll(name, `"`, `""`)+`" LOGIN PASSWORD '`+password.RevealString()+`'`); err != nil {
		t.Fatal(err)
	}
	m := remember(Values{"username": cred.SecretString(name), "password": password})
	s := stage{pg: pg}
	through(t, rotatorOf(t, m, s.opener(t, directAddress(pg), false)), rotation(1))
	if err := s.login(t.Context(), m); err != nil {
		t.Error(err)
	}
}

func TestNeitherPasswordWorks(t *testing.T) {
	pg := peers.Postgres(t)
	s := newStage(t, pg, false)
	m := remember(s.fresh(t))
	x := rotatorOf(t, m, s.opener(t, directAddress(pg), false))
	r, err := x.Prepare(t.Context(), rotation(1))
	if err != nil {
		t.Fatal(err)
	}
	s.fresh(t)
	if _, err := x.Switch(t.Context(), r); cred.KindOf(err) != cred.Invalid || len(m.versions) != 1 {
		t.Errorf("Switch: %v and %d versions, want kind invalid and one", err, len(m.versions))
	}
}

func TestProbePostgres(t *testing.T) {
	pg := peers.Postgres(t)
	probe, err := ProbePostgres(directAddress(pg), true)
	if err != nil {
		t.Fatal(err)
	}
	good := cred.Credential{Type: cred.UserPassword, Fields: plain("username", pg.User, "password", pg.Password)}
	if err := probe(t.Context(), good); err != nil {
		t.Error(err)
	}
	bad := cred.Credential{Fields: plain("username", pg.User, "password", "wrong-"+pg.Password)}
	if err := probe(t.Context(), bad); cred.KindOf(err) != cred.Denied || strings.Contains(err.Error(), "wrong-") {
		t.Errorf("a wrong password gives %v", err)
	}
	if err := probe(t.Context(), cred.Credential{}); cred.KindOf(err) != cred.Invalid {
		t.Errorf("no password gives %v", err)
	}
}

// TestUndoOfAPasswordThatIsNotASCII holds that an old password that people have chosen works again after an
// undo: what a client makes of it (SASLprep, RFC 4013) is not its bytes.
func TestUndoOfAPasswordThatIsNotASCII(t *testing.T) {
	pg := peers.Postgres(t)
	s := newStage(t, pg, false)
	s.fresh(t)
	const old = "pe\u0301nch\u00a0re" // an accent that stands alone, and a space that is none
	if err := pg.Exec(t.Context(), "ALTER ROLE orders_a PASSWORD '"+old+"'"); err != nil {
		t.Fatal(err)
	}
	m := remember(plain("username", "orders_a", "password", old))
	x := rotatorOf(t, m, s.opener(t, directAddress(pg), true))
	r, err := x.Prepare(t.Context(), rotation(1))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = x.Switch(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := x.Undo(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := s.login(t.Context(), m); err != nil {
		t.Errorf("the old password is back, and PostgreSQL refuses it: %v", err)
	}
}
