package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
)

// ownKinds are the kinds of entry about what the broker mints for itself.
var ownKinds = []audit.Kind{audit.OwnIntent, audit.OwnIssued, audit.OwnFailed, audit.OwnUnknown, audit.OwnRevoking, audit.OwnRevoked}

func (w *world) mintOwn(source string) (Own, error) {
	return w.MintOwn(w.context(), "tests of "+source, cred.CredentialSource{Issuer: source, Path: "creds/own"}, w.now().Add(time.Hour))
}

// wantOwn wants these entries about the broker's own, and returns them.
func (w *world) wantOwn(want ...audit.Kind) []audit.Event {
	w.t.Helper()
	all := w.eventsOf(ownKinds...)
	var kinds []audit.Kind
	for _, e := range all {
		kinds = append(kinds, e.Kind)
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		w.t.Fatalf("the entries differ: %s", diff)
	}
	return all
}

// What the broker mints for itself is on record before it is made, and again when it is made and ended.
func TestMintOwn(t *testing.T) {
	for _, name := range []string{"vault", "plain", "fixed"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			revocable := name != "fixed"
			var before []audit.Event
			w.sources[name].during = func(issuer.Spec, bool) { before = w.events() }
			own, err := w.mintOwn(name)
			w.must(err)
			intent := before[len(before)-1]
			if intent.Kind != audit.OwnIntent || intent.Lease.ID != own.lease.ID || intent.Lease.State != "intent" ||
				(intent.Lease.HandleFingerprint != "") != (name == "vault") || !intent.Lease.NotAfter.Equal(noon.Add(time.Hour)) {
				t.Errorf("before it was made the log ended with %+v, lease %+v", intent, intent.Lease)
			}
			issued := w.wantOwn(audit.OwnIntent, audit.OwnIssued)[1]
			want := &audit.Lease{
				ID: own.lease.ID, Redeemer: "broker", Issuer: name, State: "issued", Revocable: revocable,
				SecretFingerprint: own.Fingerprint().String(), NotAfter: noon.Add(time.Hour),
			}
			if revocable {
				want.HandleFingerprint = cred.SecretString("handle-" + string(own.lease.ID)).Fingerprint().String()
			} else {
				want.Note = "it stands"
				want.HandleFingerprint = issued.Lease.HandleFingerprint
			}
			if diff := cmp.Diff(want, issued.Lease); diff != "" {
				t.Error(diff)
			}
			if issued.Grant != "" || issued.Principal.Subject != "broker" || issued.Detail["purpose"] != "tests of "+name {
				t.Errorf("recorded %+v", issued)
			}
			w.check()

			w.EndOwn(t.Context(), own)
			w.EndOwn(t.Context(), own)
			if !revocable {
				w.wantOwn(audit.OwnIntent, audit.OwnIssued)
				if n := w.sources[name].count("revoke"); n != 0 {
					t.Errorf("it was to be revoked %d times and can't be", n)
				}
				return
			}
			w.wantOwn(audit.OwnIntent, audit.OwnIssued, audit.OwnRevoking, audit.OwnRevoked)
			w.wantLive(name, 0)
		})
	}
}

// An issuer's error leaves an outcome: nothing was made, or something may have been, and that is ended
// where it has a handle.
func TestMintOwnFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault fault
		want  []audit.Kind
		live  int
	}{
		{"vault", notDone, []audit.Kind{audit.OwnIntent, audit.OwnFailed}, 0},
		{"plain", refusedOff, []audit.Kind{audit.OwnIntent, audit.OwnFailed}, 0},
		{"vault", doneLost, []audit.Kind{audit.OwnIntent, audit.OwnUnknown, audit.OwnRevoking, audit.OwnRevoked}, 0},
		{"vault", doneOddly, []audit.Kind{audit.OwnIntent, audit.OwnUnknown, audit.OwnRevoking, audit.OwnRevoked}, 0},
		{"plain", doneLost, []audit.Kind{audit.OwnIntent, audit.OwnUnknown}, 1},
		{"sts", doneLost, []audit.Kind{audit.OwnIntent, audit.OwnUnknown, audit.OwnRevoking}, 1}, // and can't be revoked
	} {
		w := newWorld(t)
		w.sources[c.name].plan("issue", c.fault)
		own, err := w.mintOwn(c.name)
		if err == nil || own.Fields != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		e := w.wantOwn(c.want...)[1]
		if diff := cmp.Diff(audit.ErrorOf(err), e.Error); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		w.wantLive(c.name, c.live)
	}
}

// Where a source can't find what an answer was lost of, the entry has the last end that it can have.
func TestMintOwnLost(t *testing.T) {
	w := newWorld(t)
	w.cfg.Issuers["plain"] = losing{w.cfg.Issuers["plain"], time.Hour}
	w.sources["plain"].plan("issue", doneLost)
	if _, err := w.mintOwn("plain"); err == nil {
		t.Fatal("it was to fail")
	}
	e := w.wantOwn(audit.OwnIntent, audit.OwnUnknown)[1]
	if e.Lease.Note != "it ends by itself" || !e.Lease.NotAfter.Equal(noon.Add(time.Hour)) {
		t.Errorf("recorded %+v", e.Lease)
	}
}

// Where the intent can't be written, and where there is nobody to ask, nothing is asked of any issuer.
func TestMintOwnIsNotAskedFor(t *testing.T) {
	for _, name := range []string{"vault", "plain"} {
		w := newWorld(t)
		w.store.plan(notDone)
		_, err := w.mintOwn(name)
		refusedAs(t, err, cred.Unavailable, "NOT_RECORDED")
		w.wantOwn()
		if n := w.sources[name].count("issue"); n != 0 {
			t.Errorf("%s was asked %d times", name, n)
		}
		w.sources[name].plan("reserve", notDone)
		if _, err := w.mintOwn(name); (err == nil) != (name == "plain") {
			t.Errorf("%s: %v", name, err)
		}
		_, err = w.mintOwn("nowhere")
		refusedAs(t, err, cred.Unavailable, "")
	}
}

// Where the outcome can't be written nobody gets what was made, and it is ended.
func TestMintOwnIsTakenBack(t *testing.T) {
	for _, c := range []struct {
		store []fault
		want  []audit.Kind
	}{
		{[]fault{works, notDone}, []audit.Kind{audit.OwnIntent, audit.OwnUnknown, audit.OwnRevoking, audit.OwnRevoked}},
		{[]fault{works, doneLost}, []audit.Kind{audit.OwnIntent, audit.OwnIssued, audit.OwnUnknown, audit.OwnRevoking, audit.OwnRevoked}},
		{[]fault{works, notDone, works, notDone}, []audit.Kind{audit.OwnIntent, audit.OwnUnknown, audit.OwnRevoked}},
		{[]fault{works, notDone, notDone, notDone, notDone}, []audit.Kind{audit.OwnIntent}},
	} {
		for _, name := range []string{"vault", "plain"} {
			w := newWorld(t)
			w.store.plan(c.store...)
			own, err := w.mintOwn(name)
			refusedAs(t, err, cred.Unavailable, "OUTCOME_NOT_RECORDED")
			if own.Fields != nil {
				t.Error("a secret came with an error")
			}
			w.wantOwn(c.want...)
			w.wantLive(name, 0)
		}
	}
}

// A broker that dies in between leaves an intent without an outcome, whatever it was doing. Nobody makes
// another entry of it, and what was made ends by itself.
func TestMintOwnCrashes(t *testing.T) {
	for _, name := range []string{"vault", "plain"} {
		w := newWorld(t)
		left := map[string]bool{} // what the log ended with, and whether something lived
		for n, lived := int64(0), false; !lived; n++ {
			w.process.left.Store(n)
			var err error
			lived = w.process.run(func() { _, err = w.mintOwn(name) })
			w.start()
			w.must(err)
			all := w.eventsOf(ownKinds...)
			if len(all) == 0 {
				w.wantLive(name, 0)
				continue
			}
			last := all[len(all)-1]
			_, made := w.sources[name].live()[last.Lease.ID]
			if last.Kind == audit.OwnIntent && made {
				left["intent, made"] = true
			} else {
				left[string(last.Kind)] = true
			}
			w.check()
			w.clock.advance(30 * time.Minute)
			w.sweep()
			if again := w.eventsOf(ownKinds...); len(again) != len(all) {
				t.Errorf("%s: %d entries, then %d", name, len(all), len(again))
			}
			w.clock.advance(time.Hour)
			w.wantLive(name, 0)
		}
		if want := map[string]bool{"intent, made": true, "own.intent": true, "own.issued": true}; !cmp.Equal(want, left) {
			t.Errorf("%s: died with %v, want %v", name, left, want)
		}
	}
}

// That a source is about to be asked for an end is on record before it is asked. It is asked even where that
// can't be written.
func TestOwnIsRevokedOnRecord(t *testing.T) {
	begun := []audit.Kind{audit.OwnIntent, audit.OwnIssued}
	for name, c := range map[string]struct {
		store  []fault
		source fault
		asked  []audit.Kind // what was on record when the source was asked, and what came after
		then   []audit.Kind
		live   int
		logged string
	}{
		"all is well":         {nil, works, []audit.Kind{audit.OwnRevoking}, []audit.Kind{audit.OwnRevoked}, 0, ""},
		"the source is gone":  {nil, notDone, []audit.Kind{audit.OwnRevoking}, nil, 1, "was not ended early"},
		"its answer is lost":  {nil, doneLost, []audit.Kind{audit.OwnRevoking}, nil, 0, "was not ended early"},
		"no entry before":     {[]fault{notDone}, works, nil, []audit.Kind{audit.OwnRevoked}, 0, "could not be recorded; it is ended all the same"},
		"entry, answer lost":  {[]fault{doneLost}, works, []audit.Kind{audit.OwnRevoking}, []audit.Kind{audit.OwnRevoked}, 0, "could not be recorded; it is ended all the same"},
		"no entry, no source": {[]fault{notDone}, notDone, nil, nil, 1, "was not ended early"},
		"no entry after":      {[]fault{works, notDone}, works, []audit.Kind{audit.OwnRevoking}, nil, 0, "was ended could not be recorded"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			own, err := w.mintOwn("vault")
			w.must(err)
			w.sources["vault"].plan("revoke", c.source)
			w.sources["vault"].revoking = func(l cred.Lease) {
				e := w.wantOwn(slices.Concat(begun, c.asked)...)
				if last := e[len(e)-1]; len(c.asked) > 0 && (last.Lease.ID != l.ID || last.Lease.State != "revoking" || last.Detail["purpose"] != "tests of vault") {
					t.Errorf("recorded %+v, lease %+v", last, last.Lease)
				}
			}
			w.store.plan(c.store...)
			w.EndOwn(t.Context(), own)
			w.wantOwn(slices.Concat(begun, c.asked, c.then)...)
			w.wantLive("vault", c.live)
			if n := w.sources["vault"].count("revoke"); n != 1 {
				t.Errorf("the source was asked %d times", n)
			}
			if text := w.log.String(); (c.logged == "") != !strings.Contains(text, "of the broker's own") || !strings.Contains(text, c.logged) {
				t.Errorf("the broker's output lacks %q:\n%s", c.logged, text)
			}
		})
	}
}

// A store that hangs keeps no credential alive, nor the broker from its stop, even with a source that hangs.
func TestRunEndsOwnBesideAStoreThatHangs(t *testing.T) {
	for name, c := range map[string]struct {
		store  []fault
		source fault
		live   int
		took   time.Duration
		then   []audit.Kind // on record once the disk is back
	}{
		"before":             {[]fault{hangs}, works, 0, ownRecordTimeout, []audit.Kind{audit.OwnRevoked, audit.OwnRevoking}},
		"after":              {[]fault{works, hangs}, works, 0, ownEndTimeout, []audit.Kind{audit.OwnRevoking, audit.OwnRevoked}},
		"both":               {[]fault{hangs, hangs}, works, 0, ownEndTimeout, nil},
		"before, and source": {[]fault{hangs}, hangs, 1, ownEndTimeout - ownRecordTimeout, []audit.Kind{audit.OwnRevoking}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := buildWorld(t, dir, time.Now)
				_, err := w.mintOwn("vault")
				w.must(err)
				w.sources["vault"].plan("revoke", c.source)
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- w.Run(ctx) }()
				time.Sleep(time.Second / 2)
				synctest.Wait() // between two sweeps
				w.store.back = make(chan struct{})
				w.store.plan(c.store...)
				stop()
				stopped := time.Now()
				w.must(<-done)
				if took := time.Since(stopped); took != c.took {
					t.Errorf("it stopped after %v, want %v", took, c.took)
				}
				w.wantLive("vault", c.live)
				close(w.store.back)
				synctest.Wait()
				if c.then != nil {
					w.wantOwn(append([]audit.Kind{audit.OwnIntent, audit.OwnIssued}, c.then...)...)
				}
				w.close()
			})
		})
	}
}

// A broker that dies while it ends what it has for itself leaves what tells of it, and nobody goes on with
// it.
func TestEndOwnCrashes(t *testing.T) {
	left := map[string]bool{} // what the log ended with, and whether it lived
	for n, lived := int64(0), false; !lived; n++ {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			w := buildWorld(t, dir, time.Now)
			own, err := w.mintOwn("vault")
			w.must(err)
			w.process.left.Store(n)
			w.process.run(func() { w.EndOwn(t.Context(), own) })
			lived = !w.process.dead.Load()
			all := w.eventsOf(ownKinds...)
			_, alive := w.sources["vault"].live()[own.lease.ID]
			left[fmt.Sprintf("%s, alive %v", all[len(all)-1].Kind, alive)] = true
			w.start()
			w.sweep()
			w.check()
			if again := w.eventsOf(ownKinds...); len(again) != len(all) {
				t.Errorf("%d entries, then %d", len(all), len(again))
			}
			w.close()
		})
	}
	want := map[string]bool{"own.issued, alive true": true, "own.revoking, alive true": true, "own.revoking, alive false": true, "own.revoked, alive false": true}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Error(diff)
	}
}

// What lives when the broker stops is ended, but for what can't be and what was ended before.
func TestRunEndsOwn(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"vault", "plain", "plain", "fixed"} {
		_, err := w.mintOwn(name)
		w.must(err)
	}
	gone, err := w.mintOwn("vault")
	w.must(err)
	w.EndOwn(t.Context(), gone)
	w.sources["vault"].plan("revoke", notDone)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.must(w.Run(ctx))
	ended := w.eventsOf(audit.OwnRevoked)
	if len(ended) != 3 || !slices.ContainsFunc(ended, func(e audit.Event) bool { return e.Lease.ID == gone.lease.ID }) {
		t.Errorf("%d were ended", len(ended))
	}
	w.wantLive("plain", 0)
	w.wantLive("fixed", 1)
	w.wantLive("vault", 1) // it did not answer
	w.must(w.Run(ctx))
	if n := w.sources["plain"].count("revoke"); n != 2 {
		t.Errorf("%d tries to end two", n)
	}
}

// What has ended by itself is not ended again, nor kept.
func TestOwnEndsByItself(t *testing.T) {
	w := newWorld(t)
	old, err := w.mintOwn("plain")
	w.must(err)
	w.clock.advance(2 * time.Hour)
	_, err = w.mintOwn("plain")
	w.must(err)
	if len(w.owns.live) != 1 {
		t.Errorf("%d are kept", len(w.owns.live))
	}
	w.EndOwn(t.Context(), old)
	w.wantOwn(audit.OwnIntent, audit.OwnIssued, audit.OwnIntent, audit.OwnIssued)
}

// Somebody who has seen a credential of the broker's own is told of like any other.
func TestMintOwnAlarm(t *testing.T) {
	w := newWorld(t)
	var told []notice.Notice
	w.cfg.Notify = func(_ store.Tx, n notice.Notice) error { told = append(told, n); return nil }
	w.cfg.Issuers["vault"] = watched{w.cfg.Issuers["vault"].(fakeReserver)}
	_, err := w.mintOwn("vault")
	refusedAs(t, err, cred.Unavailable, issuer.ReasonUnwrapFailed)
	raised := w.eventsOf(audit.AlarmRaised)
	if len(raised) != 1 || raised[0].Principal.Subject != "broker" || raised[0].Lease.Redeemer != "broker" || len(told) != 1 {
		t.Errorf("raised %+v, told %+v", raised, told)
	}
	w.wantOwn(audit.OwnIntent, audit.OwnUnknown, audit.OwnRevoking, audit.OwnRevoked)
	w.wantLive("vault", 0)
}

// A caller that leaves, as when the broker stops, does not keep the outcome from the log.
func TestMintOwnForOneWhoLeaves(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.sources["plain"].during = func(_ issuer.Spec, minted bool) {
		if minted {
			cancel()
		}
	}
	_, err := w.MintOwn(ctx, "tests", cred.CredentialSource{Issuer: "plain"}, w.now().Add(time.Hour))
	if err != nil || !errors.Is(ctx.Err(), context.Canceled) {
		t.Fatal(err)
	}
	w.wantOwn(audit.OwnIntent, audit.OwnIssued)
}
