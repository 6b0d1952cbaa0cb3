package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

const (
	jobPath    = "/repos/octo/app/actions/jobs/399444496"
	runPath    = "/repos/octo/app/actions/runs/29679449/attempts/2"
	firstRun   = "/repos/octo/app/actions/runs/29679449/attempts/1"
	glJobPath  = "/api/v4/projects/22/jobs/1302"
	glPipePath = "/api/v4/projects/22/pipelines/574"
)

func githubThing(status, conclusion string) string {
	return fmt.Sprintf(`{"id":399444496,"run_id":29679449,"run_attempt":2,"status":%q,"conclusion":%s,"steps":[]}`, status, conclusion)
}

func gitlabThing(status string) string {
	return fmt.Sprintf(`{"id":1302,"status":%q,"stage":"test","finished_at":null}`, status)
}

func TestEnded(t *testing.T) {
	for name, c := range map[string]struct {
		who    cred.Principal
		things map[string]string
		ended  bool
		why    string
		asked  []string
	}{
		"github, the job runs":                 {actionsJob(nil), map[string]string{jobPath: githubThing("in_progress", "null"), runPath: githubThing("completed", `"success"`)}, false, "", []string{jobPath}},
		"github, the job waits":                {actionsJob(nil), map[string]string{jobPath: githubThing("queued", "null")}, false, "", []string{jobPath}},
		"github, the job is over, the run not": {actionsJob(nil), map[string]string{jobPath: githubThing("completed", `"failure"`), runPath: githubThing("in_progress", "null")}, true, "the job is completed: failure", []string{jobPath}},
		"github, the runner was killed":        {actionsJob(nil), map[string]string{jobPath: githubThing("completed", `"cancelled"`)}, true, "the job is completed: cancelled", []string{jobPath}},
		"github, no such job, the run is over": {actionsJob(nil), map[string]string{runPath: githubThing("completed", `"timed_out"`)}, true, "the run is completed: timed_out", []string{jobPath, runPath}},
		"github, a job of another run":         {actionsJob(map[string]any{"run_id": "77"}), map[string]string{jobPath: githubThing("completed", `"success"`), "/repos/octo/app/actions/runs/77/attempts/2": githubThing("in_progress", "null")}, false, "", []string{jobPath, "/repos/octo/app/actions/runs/77/attempts/2"}},
		"github, an old server without the ID": {actionsJob(map[string]any{"check_run_id": nil}), map[string]string{runPath: githubThing("completed", `"success"`)}, true, "the run is completed: success", []string{runPath}},
		"github, the first attempt":            {actionsJob(map[string]any{"check_run_id": nil, "run_attempt": nil}), map[string]string{firstRun: githubThing("in_progress", "null")}, false, "", []string{firstRun}},
		"github, numbers for strings":          {actionsJob(map[string]any{"check_run_id": nil, "run_id": float64(29679449), "run_attempt": float64(2)}), map[string]string{runPath: githubThing("completed", "null")}, true, "the run is completed", []string{runPath}},
		"github, an odd conclusion":            {actionsJob(nil), map[string]string{jobPath: githubThing("completed", `"<b>\u202e"`)}, true, "the job is completed", []string{jobPath}},
		"gitlab, the job runs":                 {gitlabJob(nil), map[string]string{glJobPath: gitlabThing("running")}, false, "", []string{glJobPath}},
		"gitlab, it is being canceled":         {gitlabJob(nil), map[string]string{glJobPath: gitlabThing("canceling")}, false, "", []string{glJobPath}},
		"gitlab, the job is over":              {gitlabJob(nil), map[string]string{glJobPath: gitlabThing("failed")}, true, "the job is over: failed", []string{glJobPath}},
		"gitlab, canceled":                     {gitlabJob(nil), map[string]string{glJobPath: gitlabThing("canceled")}, true, "the job is over: canceled", []string{glJobPath}},
		"gitlab, a pipeline":                   {gitlabJob(map[string]any{"job_id": nil}), map[string]string{glPipePath: gitlabThing("success")}, true, "the pipeline is over: success", []string{glPipePath}},
		"gitlab, a fork's merge request":       {gitlabJob(map[string]any{"project_id": "99", "job_project_id": "22"}), map[string]string{glJobPath: gitlabThing("success")}, true, "the job is over: success", []string{glJobPath}},
		"a provider that nobody watches":       {principal("other", map[string]any{"run_id": "1"}, nil), nil, false, "", nil},
		"github, no run":                       {actionsJob(map[string]any{"run_id": nil}), nil, false, "", nil},
		"github, a run that is no number":      {actionsJob(map[string]any{"run_id": "1/../../../user"}), nil, false, "", nil},
		"github, a repository that climbs":     {actionsJob(map[string]any{"repository": "../user"}), nil, false, "", nil},
		"github, a repository that is a dot":   {actionsJob(map[string]any{"repository": "octo/."}), nil, false, "", nil},
		"github, a repository with a query":    {actionsJob(map[string]any{"repository": "octo/app?x"}), nil, false, "", nil},
		"gitlab, a project by its path":        {gitlabJob(map[string]any{"project_id": "group/app"}), nil, false, "", nil},
		"gitlab, a job that is no number":      {gitlabJob(map[string]any{"job_id": "-1", "pipeline_id": nil}), nil, false, "", nil},
		"gitlab, nothing":                      {gitlabJob(map[string]any{"job_id": nil, "pipeline_id": nil}), nil, false, "", nil},
		"gitlab, a claim that is a list":       {gitlabJob(map[string]any{"job_id": []any{"1302"}, "pipeline_id": nil}), nil, false, "", nil},
		"github, an attempt that is no number": {actionsJob(map[string]any{"check_run_id": nil, "run_attempt": "x"}), nil, false, "", nil},
		"github, a job ID that is no number":   {actionsJob(map[string]any{"check_run_id": "x"}), map[string]string{runPath: githubThing("in_progress", "null")}, false, "", []string{runPath}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForge(t)
			for path, body := range c.things {
				f.set(path, body)
			}
			ended, why, err := f.watcher().Ended(t.Context(), c.who)
			if err != nil || ended != c.ended || why != c.why {
				t.Errorf("%v, %q, %v, want %v, %q", ended, why, err, c.ended, c.why)
			}
			if got := f.asked(); !slices.Equal(got, c.asked) {
				t.Errorf("asked for %q, want %q", got, c.asked)
			}
		})
	}
}

// What can't be learnt is an error, and never an end.
func TestNobodyKnows(t *testing.T) {
	status := func(code int, header ...string) func(w http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			return true
		}
	}
	for name, c := range map[string]struct {
		fault  func(w http.ResponseWriter) bool
		kind   cred.Kind
		reason string
	}{
		"500":             {status(500), cred.Unavailable, "JOBS_UNREACHABLE"},
		"502":             {status(502), cred.Unavailable, "JOBS_UNREACHABLE"},
		"no permission":   {status(403), cred.Denied, "JOBS_FORBIDDEN"},
		"a wrong token":   {status(401), cred.Denied, "JOBS_FORBIDDEN"},
		"no such job":     {status(404), cred.NotFound, "JOB_UNKNOWN"},
		"a redirect":      {status(301, "Location", "https://elsewhere.example.com/"), cred.NotFound, "JOB_UNKNOWN"},
		"a 304 unasked":   {status(304), cred.Unavailable, "JOBS_UNREACHABLE"},
		"no JSON":         {func(w http.ResponseWriter) bool { _, _ = fmt.Fprint(w, "<html>"); return true }, cred.Unavailable, "JOBS_UNREADABLE"},
		"an empty answer": {func(http.ResponseWriter) bool { return true }, cred.Unavailable, "JOBS_UNREADABLE"},
		"a hangup":        {func(http.ResponseWriter) bool { panic(http.ErrAbortHandler) }, cred.Unavailable, "JOBS_UNREACHABLE"},
		"a flood": {func(w http.ResponseWriter) bool {
			_, _ = fmt.Fprint(w, `{"status":"`, strings.Repeat("x", 2*maxAnswer), `"}`)
			return true
		}, cred.Unavailable, "JOBS_UNREADABLE"},
		"429":               {status(429), cred.Unavailable, "JOBS_LIMITED"},
		"a secondary limit": {status(403, "Retry-After", "60"), cred.Unavailable, "JOBS_LIMITED"},
		"a primary limit":   {status(403, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1795348900"), cred.Unavailable, "JOBS_LIMITED"},
	} {
		for provider, who := range map[string]cred.Principal{"github": actionsJob(map[string]any{"check_run_id": nil}), "gitlab": gitlabJob(nil)} {
			t.Run(name+", "+provider, func(t *testing.T) {
				f := newForge(t)
				f.breaks(c.fault)
				ended, why, err := f.watcher().Ended(t.Context(), who)
				e, ours := errors.AsType[*cred.Error](err)
				if ended || why != "" || !ours || e.Kind != c.kind || e.Reason != c.reason || e.Public == "" {
					t.Errorf("%v, %q, %v", ended, why, err)
				}
				if strings.Contains(err.Error(), forgeToken) {
					t.Errorf("the error shows the token: %v", err)
				}
				if limited := c.reason == "JOBS_LIMITED"; limited != (e.RetryAfter > 0) {
					t.Errorf("try again after %v", e.RetryAfter)
				}
			})
		}
	}
}

// A source that limits us is left alone until it says, and only that one.
func TestLimits(t *testing.T) {
	f := newForge(t)
	w := f.watcher()
	f.set(runPath, githubThing("in_progress", "null"))
	f.set(glJobPath, gitlabThing("running"))
	who := actionsJob(map[string]any{"check_run_id": nil})
	f.breaks(func(w http.ResponseWriter) bool {
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	_, _, err := w.Ended(t.Context(), who)
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.RetryAfter != 90*time.Second {
		t.Fatalf("got %v", err)
	}
	f.breaks(nil)
	f.asked()
	f.later(89 * time.Second)
	if _, _, err := w.Ended(t.Context(), who); cred.KindOf(err) != cred.Unavailable || len(f.asked()) != 0 {
		t.Errorf("it was asked although it limits us: %v", err)
	}
	if _, _, err := w.Ended(t.Context(), gitlabJob(nil)); err != nil {
		t.Errorf("another source is limited, too: %v", err)
	}
	f.later(time.Second)
	if _, _, err := w.Ended(t.Context(), who); err != nil {
		t.Errorf("after the limit: %v", err)
	}
}

func TestLimitOf(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	for _, c := range []struct {
		status int
		header map[string]string
		want   time.Duration
	}{
		{200, map[string]string{"X-RateLimit-Remaining": "0"}, 0},
		{403, nil, 0},
		{403, map[string]string{"X-RateLimit-Remaining": "7"}, 0},
		{403, map[string]string{"Retry-After": "60"}, time.Minute},
		{403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795000100"}, 100 * time.Second},
		{429, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1794000000"}, time.Second},
		{429, map[string]string{"RateLimit-Reset": "1795000030"}, 30 * time.Second},
		{429, map[string]string{"Retry-After": "99999999999"}, time.Hour},
		{429, map[string]string{"Retry-After": "0"}, time.Second},
		{429, map[string]string{"Retry-After": "-5"}, time.Minute},
		{429, map[string]string{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, time.Minute},
		{429, nil, time.Minute},
	} {
		resp := &http.Response{StatusCode: c.status, Header: http.Header{}}
		for name, value := range c.header {
			resp.Header.Set(name, value)
		}
		if got := limitOf(resp, now); got != c.want {
			t.Errorf("%d %v: %v, want %v", c.status, c.header, got, c.want)
		}
	}
}

// Several grants of a job cost one request, what has not changed costs no quota, and what is over is
// not asked for again.
func TestAskedOnce(t *testing.T) {
	f := newForge(t)
	w := f.watcher()
	f.set(glJobPath, gitlabThing("running"))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if ended, _, err := w.Ended(context.Background(), gitlabJob(nil)); ended || err != nil {
				t.Errorf("%v, %v", ended, err)
			}
		})
	}
	all.Wait()
	if n := len(f.asked()); n != 1 {
		t.Errorf("%d requests for one job", n)
	}
	for range 3 {
		f.later(fresh)
		if ended, _, err := w.Ended(t.Context(), gitlabJob(nil)); ended || err != nil {
			t.Errorf("%v, %v", ended, err)
		}
	}
	if n := len(f.asked()); n != 3 || f.full != 1 {
		t.Errorf("%d requests, %d answers with a body", n, f.full)
	}
	f.set(glJobPath, gitlabThing("success"))
	f.later(fresh)
	for range 3 {
		if ended, why, err := w.Ended(t.Context(), gitlabJob(nil)); !ended || why == "" || err != nil {
			t.Errorf("%v, %q, %v", ended, why, err)
		}
		f.later(time.Minute)
	}
	if n := len(f.asked()); n != 1 {
		t.Errorf("%d requests for a job that is over", n)
	}
}

// What is remembered is bounded.
func TestForgets(t *testing.T) {
	f := newForge(t)
	s := f.watcher().sources["actions"]
	for i := range maxKept {
		s.answer(fmt.Sprint("/", i))
	}
	s.answer("/one more")
	if len(s.known) != 1 {
		t.Errorf("%d answers are kept, though all were in use", len(s.known))
	}
	for i := range maxKept - 1 {
		s.answer(fmt.Sprint("/", i))
	}
	f.later(kept)
	s.answer("/one more")
	f.later(time.Second)
	s.answer("/new")
	if len(s.known) != 2 {
		t.Errorf("%d answers are kept", len(s.known))
	}
}

// A token that can't be had is its source's error; a job without one is asked for openly.
func TestTokens(t *testing.T) {
	f := newForge(t)
	sorry := &cred.Error{Kind: cred.Unavailable, Op: "test", Public: "no token today"}
	w, err := New([]Config{{
		Provider: "actions", Kind: "github", API: f.URL, AllowPlain: true,
		Token: func(context.Context, string) (cred.Secret, error) { return cred.Secret{}, sorry },
	}, {Provider: "gitlab-ci", Kind: "gitlab", API: f.URL + "/api/v4", AllowPlain: true}}, f.clock)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Ended(t.Context(), actionsJob(nil)); !errors.Is(err, sorry) || len(f.asked()) != 0 {
		t.Errorf("got %v", err)
	}
	if _, _, err := w.Ended(t.Context(), gitlabJob(nil)); cred.KindOf(err) != cred.Denied || len(f.asked()) != 1 {
		t.Errorf("got %v", err)
	}
}

func TestConfigs(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, all := range map[string][]Config{
		"no provider":     {{Kind: "github"}},
		"no kind":         {{Provider: "a"}},
		"an unknown kind": {{Provider: "a", Kind: "forgejo"}},
		"twice":           {{Provider: "a", Kind: "github"}, {Provider: "a", Kind: "gitlab"}},
		"plain":           {{Provider: "a", Kind: "github", API: "http://api.example.com", AllowPlain: true}},
		"plain unasked":   {{Provider: "a", Kind: "github", API: "http://127.0.0.1"}},
		"a query":         {{Provider: "a", Kind: "github", API: "https://api.example.com?x=y"}},
		"a password":      {{Provider: "a", Kind: "github", API: "https://u:p@api.example.com"}},
		"a slash":         {{Provider: "a", Kind: "github", API: "https://api.example.com/"}},
		"no host":         {{Provider: "a", Kind: "github", API: "https:///x"}},
		"no CA file":      {{Provider: "a", Kind: "github", CAFile: "/absent"}},
		"an odd CA file":  {{Provider: "a", Kind: "github", CAFile: noPEM}},
	} {
		if _, err := New(all, time.Now); cred.KindOf(err) != cred.Invalid || !strings.Contains(cred.PublicText(err), "jobs of provider") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w, err := New([]Config{{Provider: "a", Kind: "github"}, {Provider: "b", Kind: "gitlab"}}, time.Now)
	if err != nil || w.sources["a"].cfg.API != "https://api.github.com" || w.sources["b"].cfg.API != "https://gitlab.com/api/v4" || w.sources["a"].http.Timeout != 10*time.Second {
		t.Errorf("%+v, %v", w, err)
	}
}
