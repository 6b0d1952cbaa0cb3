package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
)

func TestOneRedemptionForAGrantAndPrincipal(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok")})
	bob := r.claims()
	bob.Subject = "bob"
	robot := r.claims()
	robot.Actor = &token.Actor{Subject: "robot"}
	for range 3 {
		for _, tok := range []string{r.token(), r.sign(bob), r.sign(robot)} {
			q := r.request("GET", "/api/x", nil)
			q.Header.Set("Authorization", "Bearer "+tok)
			if s := text(t, r.do(q)); s != "ok" {
				t.Fatal(s)
			}
		}
	}
	if n := r.redeemer.calls.Load(); n != 3 {
		t.Errorf("%d redemptions for three principals of one grant", n)
	}
}

func TestActorChainsDiffer(t *testing.T) {
	a := actors(&token.Actor{Subject: "a", Actor: &token.Actor{Subject: "b"}})
	for _, other := range []*token.Actor{nil, {Subject: "a"}, {Subject: "b"}, {Issuer: "a", Subject: "b"}, {Subject: "b", Actor: &token.Actor{Subject: "a"}}} {
		if actors(other) == a {
			t.Errorf("%+v has the key of another chain", other)
		}
	}
}

func TestConcurrentCallersShareOneFlightThatOutlivesTheFirst(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var r *rig
	r = newRig(t, setup{upstream: reply("ok"), redeem: func(ctx context.Context, _ cred.Secret) (Redemption, error) {
		close(entered) // a second call would panic
		select {
		case <-leave:
			return r.redeemed, nil
		case <-ctx.Done():
			return Redemption{}, ctx.Err()
		}
	}})
	tok := cred.SecretString(r.token())
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := r.proxy.Open(ctx, tok, "api"); first <- err }()
	receive(t, entered)
	cancel()
	if err := receive(t, first); cred.KindOf(err) != cred.Unavailable || !errors.Is(err, context.Canceled) {
		t.Fatalf("the first caller got %v", err)
	}
	second := make(chan error, 1)
	go func() { _, err := r.proxy.Open(t.Context(), tok, "api"); second <- err }()
	close(leave)
	if err := receive(t, second); err != nil {
		t.Fatalf("the second caller got %v", err)
	}
	if n := r.redeemer.calls.Load(); n != 1 {
		t.Errorf("%d redemptions", n)
	}
}

// bubble runs a test of the proxy without a network, on a clock of its own.
func bubble(t *testing.T, f func(t *testing.T, p *Proxy, log *memLog, redeemer *redeemFunc, tok cred.Secret)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, log: newMemLog()}
		ring, err := token.NewKeyRing(token.ES256, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r.ring = ring
		r.redeemer = &redeemFunc{}
		p, err := New(Config{Name: "edge", Verifier: token.NewVerifier(brokerURL, ring, time.Now), Redeemer: r.redeemer, Log: r.log})
		if err != nil {
			t.Fatal(err)
		}
		p.Synced(time.Now())
		r.redeemer.do = func(context.Context, cred.Secret) (Redemption, error) {
			return redemption(time.Now().Add(10 * time.Second)), nil
		}
		f(t, p, r.log, r.redeemer, cred.SecretString(r.token()))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour) // let every timer of the proxy run out
	})
}

func redemption(until time.Time) Redemption {
	return Redemption{
		Grant: "gr_1", Lease: "le_1", NotAfter: until, Target: cred.Target{Name: "api"},
		Credential: cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": cred.SecretString(secretText)}},
	}
}

func TestSessionEndsAtItsTimeAndCuts(t *testing.T) {
	for name, c := range map[string]struct{ grant, credential time.Duration }{
		"the grant's end":      {5 * time.Second, time.Hour},
		"the credential's end": {time.Hour, 5 * time.Second},
		"no credential's end":  {5 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *Proxy, log *memLog, redeemer *redeemFunc, tok cred.Secret) {
				redeemer.do = func(context.Context, cred.Secret) (Redemption, error) {
					r := redemption(time.Now().Add(c.grant))
					if c.credential > 0 {
						r.Credential.NotAfter = time.Now().Add(c.credential)
					}
					return r, nil
				}
				began := time.Now()
				s, err := p.Open(t.Context(), tok, "api")
				if err != nil {
					t.Fatal(err)
				}
				cut := make(chan struct{})
				u, err := s.Begin(t.Context(), Operation{Cut: func() { close(cut) }})
				if err != nil {
					t.Fatal(err)
				}
				<-u.Context().Done()
				<-cut
				if at := time.Since(began); at != 5*time.Second {
					t.Errorf("cut after %v", at)
				}
				u.End(Outcome{Ended: EndedUpstreamError})
				synctest.Wait()
				if e := log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedExpired || e.Use.DurationMS != 5000 {
					t.Errorf("recorded end %+v", e.Use)
				}
				if _, err := s.Begin(t.Context(), Operation{}); !errors.Is(err, errExpired) {
					t.Errorf("after its end: %v", err)
				}
				if _, err := p.Open(t.Context(), tok, "api"); err != nil || redeemer.calls.Load() != 2 {
					t.Errorf("a live grant was not redeemed again: %v", err)
				}
			})
		})
	}
}

func TestFailureIsRememberedForASecond(t *testing.T) {
	bubble(t, func(t *testing.T, p *Proxy, _ *memLog, redeemer *redeemFunc, tok cred.Secret) {
		denied := &cred.Error{Kind: cred.Denied, Op: "redeem", Reason: "NOPE", Public: "no"}
		good := redeemer.do
		redeemer.do = func(context.Context, cred.Secret) (Redemption, error) { return Redemption{}, denied }
		for range 3 {
			if _, err := p.Open(t.Context(), tok, "api"); !errors.Is(err, denied) {
				t.Fatalf("got %v", err)
			}
		}
		if n := redeemer.calls.Load(); n != 1 {
			t.Errorf("%d redemptions within the second", n)
		}
		redeemer.do = good
		time.Sleep(failureKept + time.Millisecond)
		if _, err := p.Open(t.Context(), tok, "api"); err != nil {
			t.Errorf("after the second: %v", err)
		}
	})
}

func TestStaleRevocationsFailClosed(t *testing.T) {
	bubble(t, func(t *testing.T, p *Proxy, _ *memLog, _ *redeemFunc, tok cred.Secret) {
		s, err := p.Open(t.Context(), tok, "api")
		if err != nil {
			t.Fatal(err)
		}
		p.Synced(time.Now().Add(-30 * time.Second))
		if err := p.Ready(); err != nil {
			t.Errorf("as old as it may be: %v", err)
		}
		p.Synced(time.Now().Add(-30*time.Second - 1))
		if _, err := p.Open(t.Context(), tok, "api"); !errors.Is(err, errStale) {
			t.Errorf("open: %v", err)
		}
		if _, err := s.Begin(t.Context(), Operation{}); !errors.Is(err, errStale) {
			t.Errorf("begin: %v", err)
		}
	})
}

func TestRevocationIsRememberedUntilTheGrantsEnd(t *testing.T) {
	bubble(t, func(t *testing.T, p *Proxy, _ *memLog, redeemer *redeemFunc, tok cred.Secret) {
		p.Revoke("gr_1", time.Now().Add(time.Minute)) // never had a session
		p.Revoke("gr_1", time.Now())                  // a shorter memory does not replace a longer one
		time.Sleep(time.Minute + clockSkew)
		p.Synced(time.Now())
		if _, err := p.Open(t.Context(), tok, "api"); !errors.Is(err, errRevoked) {
			t.Errorf("got %v", err)
		}
		if n := redeemer.calls.Load(); n != 0 {
			t.Errorf("a revoked grant was redeemed %d times", n)
		}
		for i := range 2000 {
			p.Revoke(cred.GrantID(fmt.Sprint("gr_other", i)), time.Now())
			time.Sleep(time.Second)
		}
		if n := len(p.revoked); n > 1500 {
			t.Errorf("%d revocations are still remembered", n)
		}
	})
}

func TestRevokedWhileItIsRedeemed(t *testing.T) {
	bubble(t, func(t *testing.T, p *Proxy, _ *memLog, redeemer *redeemFunc, tok cred.Secret) {
		good := redeemer.do
		redeemer.do = func(ctx context.Context, tok cred.Secret) (Redemption, error) {
			p.Revoke("gr_1", time.Time{})
			return good(ctx, tok)
		}
		if _, err := p.Open(t.Context(), tok, "api"); !errors.Is(err, errRevoked) {
			t.Errorf("got %v", err)
		}
		if len(p.sessions) != 0 {
			t.Error("the session lives")
		}
	})
}

func TestRedemptionMustMatch(t *testing.T) {
	for name, change := range map[string]func(*Redemption){
		"another grant":  func(r *Redemption) { r.Grant = "gr_2" },
		"another target": func(r *Redemption) { r.Target.Name = "other" },
		"no end":         func(r *Redemption) { r.NotAfter = time.Time{} },
		"past":           func(r *Redemption) { r.NotAfter = time.Now() },
		"unknown detector": func(r *Redemption) {
			r.Target.Mask.Detectors = []string{"no-such-detector"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *Proxy, _ *memLog, redeemer *redeemFunc, tok cred.Secret) {
				redeemer.do = func(context.Context, cred.Secret) (Redemption, error) {
					r := redemption(time.Now().Add(time.Minute))
					change(&r)
					return r, nil
				}
				if _, err := p.Open(t.Context(), tok, "api"); err == nil {
					t.Error("it was taken")
				}
			})
		})
	}
}

func TestMaxSessions(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok"), config: func(c *Config) { c.MaxSessions = 1 }})
	if s := text(t, r.get("/api/x")); s != "ok" {
		t.Fatal(s)
	}
	bob := r.claims()
	bob.Subject = "bob"
	q := r.request("GET", "/api/x", nil)
	q.Header.Set("Authorization", "Bearer "+r.sign(bob))
	wantProblem(t, r.do(q), 503, "too_many_sessions")
}

func TestRevokeCutsEveryStreamOfTheGrantAtOnce(t *testing.T) {
	const streams = 8
	var gone sync.WaitGroup
	gone.Add(streams)
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		defer gone.Done()
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"n\":1}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-q.Context().Done()
	})})
	var open []*http.Response
	for range streams {
		res := r.get("/api/x")
		if _, err := io.ReadFull(res.Body, make([]byte, len("data: {\"n\":1}\n\n"))); err != nil {
			t.Fatal(err)
		}
		open = append(open, res)
	}
	began := time.Now()
	r.proxy.Revoke("gr_1", time.Now().Add(time.Hour))
	for _, res := range open {
		if rest, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("a cut stream ended cleanly after %q", rest)
		}
	}
	gone.Wait()
	if d := time.Since(began); d > 4*time.Second { // a busy machine is slow; what waits for a tick or a timeout is slower
		t.Errorf("it took %v", d)
	}
	if e := r.log.await(t, audit.UseEnd, streams); e.Use.Ended != EndedRevoked || e.Use.Status != 200 || e.Use.BytesOut != 15 {
		t.Errorf("recorded end %+v", e.Use)
	}
	wantProblem(t, r.get("/api/x"), 403, "grant_revoked")
	if n := r.redeemer.calls.Load(); n != 1 {
		t.Errorf("%d redemptions", n)
	}
}

// A caller that does not read, and one that does not send, must not keep a revoked operation.
func TestRevokeFreesBlockedCallers(t *testing.T) {
	t.Run("does not read", func(t *testing.T) {
		r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.WriteString(w, "a line\n")
			_ = http.NewResponseController(w).Flush()
			<-q.Context().Done()
		})})
		w := &stuckWriter{header: http.Header{}, stuck: make(chan struct{}), freed: make(chan struct{})}
		q := httptest.NewRequest("GET", "/api/x", nil)
		q.Header.Set("Authorization", "Bearer "+r.token())
		broken := make(chan any, 1)
		go func() {
			defer func() { broken <- recover() }()
			r.front.ServeHTTP(w, q)
		}()
		receive(t, w.stuck)
		r.proxy.Revoke("gr_1", time.Time{})
		if v := receive(t, broken); v != http.ErrAbortHandler {
			t.Errorf("the handler ended with %v", v)
		}
		if e := r.log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedRevoked {
			t.Errorf("recorded end %+v", e.Use)
		}
	})
	t.Run("does not send", func(t *testing.T) {
		entered := make(chan struct{})
		r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.ReadFull(q.Body, make([]byte, len("begun")))
			close(entered)
			_, _ = io.Copy(io.Discard, q.Body)
		})})
		body, feed := io.Pipe()
		defer feed.Close()
		q := r.request("POST", "/api/x", body)
		answered := make(chan *http.Response, 1)
		go func() {
			res, err := r.client.Do(q)
			if err != nil {
				t.Error(err)
			}
			answered <- res
		}()
		_, _ = io.WriteString(feed, "begun")
		receive(t, entered)
		r.proxy.Revoke("gr_1", time.Time{})
		res := receive(t, answered)
		defer res.Body.Close()
		wantProblem(t, res, 403, "grant_revoked")
		if e := r.log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedRevoked || e.Use.BytesIn != 5 {
			t.Errorf("recorded end %+v", e.Use)
		}
	})
}

// stuckWriter is the connection of a caller who does not read: Write blocks until a deadline is set.
type stuckWriter struct {
	header       http.Header
	stuck, freed chan struct{}
}

func (w *stuckWriter) Header() http.Header             { return w.header }
func (w *stuckWriter) WriteHeader(int)                 {}
func (w *stuckWriter) Flush()                          {}
func (w *stuckWriter) SetReadDeadline(time.Time) error { return nil }

func (w *stuckWriter) Write([]byte) (int, error) {
	close(w.stuck)
	<-w.freed
	return 0, os.ErrDeadlineExceeded
}

func (w *stuckWriter) SetWriteDeadline(time.Time) error {
	close(w.freed)
	return nil
}
