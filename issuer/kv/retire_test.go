package kv

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	"github.com/daypass-io/daypass/issuer"
)

// lock is an Opener that takes several codes at a time.
type lock struct {
	codes []string
	ends  int
	after func() // what happens elsewhere once a code has ended
}

func (l *lock) Works(_ context.Context, v Values) error {
	if !slices.Contains(l.codes, v["code"].RevealString()) {
		return &cred.Error{Kind: cred.Denied, Op: "lock", Public: "the lock does not take this code"}
	}
	return nil
}

func (l *lock) Next(context.Context, issuer.Rotation, Values) (Values, error) {
	return plain("code", "code-new"), nil
}

func (l *lock) Change(ctx context.Context, _ issuer.Rotation, _, to Values, put Put) (Values, error) {
	l.codes = append(l.codes, to["code"].RevealString())
	return nil, put(ctx, to)
}

func (l *lock) End(_ context.Context, _ issuer.Rotation, _, gone Values) error {
	l.ends++
	l.codes = slices.DeleteFunc(l.codes, func(code string) bool { return code == gone["code"].RevealString() })
	if l.after != nil {
		l.after()
	}
	return nil
}

var (
	lockOld   = plain("code", "code-old", "place", "front")
	lockNew   = plain("code", "code-new", "place", "front")
	lockThird = plain("code", "code-third", "place", "front")
)

// switched returns a rotation of a lock that stands before Retire: version 1 of the secret is the old one,
// version 2 the new one, and the lock takes both.
func switched(t *testing.T, k Keeper, o Opener) (issuer.Rotator, issuer.Rotation) {
	t.Helper()
	x, err := New(Config{Keeper: k, Path: path, Opener: o, Overlap: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	r, err := x.Prepare(t.Context(), rotation(1))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = x.Switch(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := x.Verify(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return x, r
}

// put writes the next version, as somebody else does.
func (m *memory) put(v Values) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.versions = append(m.versions, v)
}

// Somebody changes the secret in the overlap. Who reads it must not be left with one that is ended, and no
// version of it is destroyed.
func TestRetireLooksWhatIsInUse(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *memory)
		want   cred.Kind
		says   []string
	}{
		"rolled back":           {func(m *memory) { m.put(lockOld) }, cred.Conflict, []string{"rotated: the old secret stands there", "version 3", "until version 2 is put back"}},
		"rolled back and grown": {func(m *memory) { m.put(merge(lockOld, plain("port", "5432"))) }, cred.Conflict, []string{"rotated: the old secret stands there"}},
		"a third one":           {func(m *memory) { m.put(lockThird) }, cred.Conflict, []string{"neither the old secret nor the new one"}},
		"without the field":     {func(m *memory) { m.put(plain("place", "front")) }, cred.Conflict, []string{"neither"}},
		"deleted":               {func(m *memory) { m.put(nil) }, cred.Invalid, []string{"no current version"}},
		"Vault is silent":       {func(m *memory) { m.failRead = 1 }, cred.Unavailable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, l := remember(lockOld), &lock{codes: []string{"code-old"}}
			x, r := switched(t, m, l)
			c.change(m)
			before := m.left()
			_, err := x.Retire(t.Context(), r)
			if cred.KindOf(err) != c.want {
				t.Errorf("Retire: %v, want kind %v", err, c.want)
			}
			for _, part := range c.says {
				if !strings.Contains(cred.PublicText(err), part) {
					t.Errorf("%q lacks %q", cred.PublicText(err), part)
				}
			}
			if l.ends != 0 || !slices.Equal(m.left(), before) {
				t.Errorf("the old secret was ended %d times, and of the versions %v are left %v", l.ends, before, m.left())
			}
			m.put(lockNew) // somebody mends it
			if _, err := x.Retire(t.Context(), r); err != nil {
				t.Errorf("Retire after the new secret was put back: %v", err)
			}
			if now, _, err := m.ReadKV(t.Context(), path); err != nil || l.Works(t.Context(), now) != nil || l.Works(t.Context(), lockOld) == nil {
				t.Errorf("the lock takes %v", l.codes)
			}
		})
	}
}

// Between the end of the old secret and the end of its versions it looks again: the new one's version is
// the way forward for who has put the old one back meanwhile.
func TestRetireLooksAgainBeforeItDestroys(t *testing.T) {
	m, l := remember(lockOld), &lock{codes: []string{"code-old"}}
	x, r := switched(t, m, l)
	l.after = func() { m.put(lockOld) }
	if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Retire: %v, want kind conflict", err)
	}
	if got := m.left(); !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("the versions %v are left, want all three", got)
	}
	m.put(lockNew)
	l.after = nil
	if _, err := x.Retire(t.Context(), r); err != nil {
		t.Error(err)
	}
	if got := m.left(); !slices.Equal(got, []int{4}) {
		t.Errorf("the versions %v are left, want the last", got)
	}
}

// A broker that was killed between the two finds the old secret ended, and does the rest.
func TestRetireGoesOnAfterACrash(t *testing.T) {
	m, l := remember(lockOld), &lock{codes: []string{"code-old"}}
	x, r := switched(t, m, l)
	l.after = func() { m.failRead = 1 } // the second look
	if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != cred.Unavailable {
		t.Errorf("Retire: %v, want kind unavailable", err)
	}
	if l.Works(t.Context(), lockOld) == nil || len(m.left()) != 2 {
		t.Errorf("the lock takes %v and the versions %v are left", l.codes, m.left())
	}
	l.after = nil
	r.Attempt = 2
	if _, err := x.Retire(t.Context(), r); err != nil || !slices.Equal(m.left(), []int{2}) {
		t.Errorf("the next try: %v; the versions %v are left", err, m.left())
	}
}

// What the rotation has not changed is its writer's business.
func TestRetireLeavesOtherFieldsAlone(t *testing.T) {
	m, l := remember(lockOld), &lock{codes: []string{"code-old"}}
	x, r := switched(t, m, l)
	m.put(merge(lockNew, plain("place", "back", "port", "5432")))
	if _, err := x.Retire(t.Context(), r); err != nil || l.Works(t.Context(), lockOld) == nil || !slices.Equal(m.left(), []int{3}) {
		t.Errorf("Retire: %v; the lock takes %v, the versions %v are left", err, l.codes, m.left())
	}
}

// The same with two roles of a real PostgreSQL: the login that was put back works on.
func TestRetireOfTwoRolesThatWereRolledBack(t *testing.T) {
	s := newStage(t, peers.Postgres(t), true)
	old := s.fresh(t)
	m := remember(old)
	x, r := switched(t, m, s.opener(t, directAddress(s.pg), true))
	m.put(old)
	if _, err := x.Retire(t.Context(), r); cred.KindOf(err) != cred.Conflict {
		t.Errorf("Retire: %v, want kind conflict", err)
	}
	if err := s.login(t.Context(), m); err != nil {
		t.Errorf("what was put back is refused: %v", err)
	}
}
