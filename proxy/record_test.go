package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/cred"
)

var errDisk = errors.New("no space left on device")

func failOn(kinds ...audit.Kind) func([]audit.Event) error {
	return func(events []audit.Event) error {
		for _, e := range events {
			for _, k := range kinds {
				if e.Kind == k {
					return errDisk
				}
			}
		}
		return nil
	}
}

func TestNothingIsForwardedWithoutARecord(t *testing.T) {
	var seen atomic.Int32
	r := newRig(t, setup{upstream: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) })})
	r.log.failWith(failOn(audit.UseBegin))
	for range 3 {
		p := wantProblem(t, r.get("/api/x"), 503, "log_unavailable")
		if p.Detail != errUnlogged.Public {
			t.Errorf("detail %q", p.Detail)
		}
	}
	if n := seen.Load(); n != 0 {
		t.Fatalf("the upstream saw %d requests", n)
	}
	if e := r.log.await(t, audit.UseRefused, 3); e.Use.Rule != "log_unavailable" || e.Principal.Subject != "alice" {
		t.Errorf("recorded refusal %+v", e)
	}
	r.log.failWith(nil)
	if res := r.get("/api/x"); res.StatusCode != 200 {
		t.Errorf("after the log recovered: %d", res.StatusCode)
	}
}

func TestBeginIsDurableBeforeTheUpstreamSeesTheRequest(t *testing.T) {
	var r *rig
	r = newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if r.log.count(audit.UseBegin) != 1 || r.log.count(audit.UseEnd) != 0 {
			t.Error("the upstream was asked before the begin was durable")
		}
	})})
	r.get("/api/x")
	r.log.await(t, audit.UseEnd, 1)
}

func TestUnrecordedEndStopsFurtherUsesUntilItIsRecorded(t *testing.T) {
	bubble(t, func(t *testing.T, p *Proxy, log *memLog, _ *redeemFunc, tok cred.Secret) {
		s, err := p.Open(t.Context(), tok, "api")
		if err != nil {
			t.Fatal(err)
		}
		u, err := s.Begin(t.Context(), Operation{})
		if err != nil {
			t.Fatal(err)
		}
		log.failWith(failOn(audit.UseEnd))
		u.End(Outcome{Ended: EndedComplete})
		synctest.Wait()
		if _, err := s.Begin(t.Context(), Operation{}); !errors.Is(err, errUnlogged) {
			t.Errorf("with an end outstanding: %v", err)
		}
		if err := p.Ready(); !errors.Is(err, errUnlogged) {
			t.Errorf("ready: %v", err)
		}
		log.failWith(nil)
		time.Sleep(lastPause)
		if e := log.await(t, audit.UseEnd, 1); e.Use.ID != u.ID() {
			t.Errorf("recorded %+v", e.Use)
		}
		v, err := s.Begin(t.Context(), Operation{})
		if err != nil {
			t.Fatalf("after the log recovered: %v", err)
		}
		v.End(Outcome{})
	})
}

func TestHungLogIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(hungLog{}, 4, time.Second)
		began := time.Now()
		if err := r.write(audit.Event{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		if !r.reserve() {
			t.Fatal("no place")
		}
		r.finish(audit.Event{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := r.close(ctx); err == nil {
			t.Error("closed without an error and without the record")
		}
	})
}

type hungLog struct{}

func (hungLog) Append(ctx context.Context, _ ...audit.Event) (uint64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestUsesInFlightAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, p *Proxy, log *memLog, _ *redeemFunc, tok cred.Secret) {
		p.recorder.places = 2
		s, err := p.Open(t.Context(), tok, "api")
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Begin(t.Context(), Operation{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Begin(t.Context(), Operation{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Begin(t.Context(), Operation{}); !errors.Is(err, errBusy) {
			t.Errorf("the third of two: %v", err)
		}
		a.End(Outcome{})
		a.End(Outcome{}) // a second call gives no second place back
		synctest.Wait()
		if n := log.count(audit.UseEnd); n != 1 {
			t.Errorf("%d ends of one use", n)
		}
		c, err := s.Begin(t.Context(), Operation{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Begin(t.Context(), Operation{}); !errors.Is(err, errBusy) {
			t.Errorf("the third of two: %v", err)
		}
		b.End(Outcome{})
		c.End(Outcome{})
		synctest.Wait()
		if _, err := s.Begin(t.Context(), Operation{}); err != nil {
			t.Error(err)
		} else if n := p.unrecorded.Load(); n != 2 {
			t.Errorf("%d refusals are counted as not recorded", n)
		}
		p.recorder.taken = 0 // the last use is left to itself
	})
}

func TestStrangersCannotFillTheLog(t *testing.T) {
	bubble(t, func(t *testing.T, p *Proxy, log *memLog, _ *redeemFunc, _ cred.Secret) {
		const flood = 1000
		for range flood {
			p.Refuse(Operation{Protocol: "http"}, errNoToken)
		}
		synctest.Wait()
		if n := log.count(audit.UseRefused); n != strangersBurst {
			t.Errorf("%d refusals recorded", n)
		}
		time.Sleep(time.Second)
		p.Refuse(Operation{Protocol: "http"}, errNoToken)
		synctest.Wait()
		if e := log.await(t, audit.UseRefused, strangersBurst+1); e.Detail["unrecorded_refusals"] != float64(flood-strangersBurst) {
			t.Errorf("the record after the flood says %v", e.Detail)
		}
	})
}

func TestRecordsFitAndAreMasked(t *testing.T) {
	r := newRig(t, setup{upstream: reply("ok")})
	long := make([]byte, 4000)
	for i := range long {
		long[i] = 'a'
	}
	copy(long[maxPathText-10:], secretText) // over the place where it is cut short
	text(t, r.get("/api/"+string(long)+"?q="+secretText))
	e := r.log.await(t, audit.UseBegin, 1)
	if len(e.Use.Path) > maxPathText+len("…") || len(e.Use.Path) < maxPathText {
		t.Errorf("%d bytes of path", len(e.Use.Path))
	}
	for i := 4; i <= len(secretText); i++ {
		if contains(e.Use.Path, secretText[:i]) {
			t.Fatalf("the record's path has %q of the secret", secretText[:i])
		}
	}
}

func TestShutdownFinishesWhatRunsAndRecordsIt(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "late")
	})})
	q := r.request("GET", "/api/x", nil)
	answered := make(chan *http.Response, 1)
	go func() {
		res, err := r.client.Do(q)
		if err != nil {
			t.Error(err)
		}
		answered <- res
	}()
	receive(t, entered)
	stopped := make(chan error, 1)
	go func() { stopped <- r.front.Shutdown(t.Context()) }()
	close(leave)
	res := receive(t, answered)
	defer res.Body.Close()
	if s := text(t, res); s != "late" {
		t.Errorf("got %q", s)
	}
	if err := receive(t, stopped); err != nil {
		t.Error(err)
	}
	if e := r.log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedComplete {
		t.Errorf("recorded end %+v", e.Use)
	}
	if _, err := r.client.Do(r.request("GET", "/api/x", nil)); err == nil {
		t.Error("it still answers")
	}
}

func TestShutdownCutsWhatDoesNotFinish(t *testing.T) {
	r := newRig(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-q.Context().Done()
	})})
	res := r.get("/api/x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.front.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("a cut stream ended cleanly")
	}
	if e := r.log.await(t, audit.UseEnd, 1); e.Use.Ended != EndedStopped {
		t.Errorf("recorded end %+v", e.Use)
	}
}
