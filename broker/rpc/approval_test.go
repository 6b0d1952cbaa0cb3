package rpc_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/rpc"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token/dpop"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

func (w *world) lead() *sdk.Client { return w.as(w.token("lea", "leads")) }

// The whole of it over the wire: asked for, waited for, seen, agreed to, claimed, renewed.
func TestApprovalOverTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	ctx := t.Context()
	ann, lea := w.member(), w.lead()
	want := cred.Request{Target: "prod", Reason: "release"}
	asked, err := ann.Exchange(ctx, want)
	must(t, err)
	if !asked.Pending() || !asked.Token.IsZero() || asked.Credential != nil || asked.Grant.GetRule() != "prod-on-request" {
		t.Fatalf("asked: %+v", asked)
	}
	id := cred.GrantID(asked.Grant.GetId())

	states, waited := make(chan *pb.WaitResponse, 5), make(chan error, 1)
	go func() {
		waited <- ann.Wait(ctx, id, func(r *pb.WaitResponse) error { states <- r; return nil })
	}()
	if r := <-states; r.GetGrant().GetState() != "pending" || r.GetAsked() != "1 of leads" {
		t.Errorf("waits: %v", r)
	}
	all, err := lea.Requests(ctx)
	must(t, err)
	if len(all) != 1 || all[0].GetGrant().GetId() != string(id) || !slices.Equal(all[0].GetYourGroups(), []string{"leads"}) || all[0].GetClaims()["name"] == "" {
		t.Fatalf("the lead sees %v", all)
	}
	one, err := lea.Request(ctx, id)
	must(t, err)
	_, err = lea.Review(ctx, id, strings.Repeat("0", 64), cred.Verdict{Approve: true})
	wantRefusal(t, err, cred.Conflict, "DIGEST_MISMATCH")
	_, err = ann.Review(ctx, id, one.GetDigest(), cred.Verdict{Approve: true})
	wantRefusal(t, err, cred.Denied, "OWN_REQUEST")
	done, err := lea.Review(ctx, id, one.GetDigest(), cred.Verdict{Approve: true, Comment: "fine"})
	must(t, err)
	if done.GetGrant().GetState() != "approved" || done.GetApprovals()[0].GetComment() != "fine" {
		t.Errorf("reviewed: %v", done)
	}
	if r := <-states; r.GetGrant().GetState() != "approved" || r.GetApprovals() != 1 {
		t.Errorf("waits: %v", r)
	}
	must(t, <-waited)
	got, err := ann.Exchange(ctx, want, sdk.Claiming(id))
	must(t, err)
	if got.Grant.GetState() != "active" || got.Credential == nil || got.Token.IsZero() || got.Grant.GetRenewals() != 1 {
		t.Errorf("claimed: %+v", got)
	}
	next, err := ann.Renew(ctx, id, time.Minute)
	must(t, err)
	if next.Grant.GetId() == string(id) || next.Credential == nil {
		t.Errorf("renewed: %+v", next)
	}
}

// wantRefusal wants our error of a kind, for a reason.
func wantRefusal(t *testing.T, err error, kind cred.Kind, reason string) {
	t.Helper()
	e, ok := asError(err)
	if !ok || e.Kind != kind || e.Reason != reason {
		t.Errorf("got %v, want %v %s", err, kind, reason)
	}
}

// Through the HTTP door a request is pending in OAuth's words, and the same call finds it again.
func TestApprovalOverHTTP(t *testing.T) {
	w := newWorld(t, settings{})
	c := w.web(false)
	form := tokenForm(w.token("ann", "team"), "prod")
	r := postForm(t, w, c, "/oauth/token", form)
	var waits refusal
	decode(t, strings.NewReader(r.body), &waits)
	if r.status != http.StatusBadRequest || waits.Error != "authorization_pending" || waits.RequestID == "" || waits.Interval <= 0 {
		t.Fatalf("%d %+v", r.status, waits)
	}
	one, err := w.lead().Request(t.Context(), cred.GrantID(waits.RequestID))
	must(t, err)
	form.Set("request_id", waits.RequestID)
	if r = postForm(t, w, c, "/oauth/token", form); !strings.Contains(r.body, "authorization_pending") {
		t.Errorf("still: %s", r.body)
	}
	_, err = w.lead().Review(t.Context(), cred.GrantID(waits.RequestID), one.GetDigest(), cred.Verdict{Approve: true})
	must(t, err)
	r = postForm(t, w, c, "/oauth/token", form)
	var got tokenAnswer
	decode(t, strings.NewReader(r.body), &got)
	if r.status != http.StatusOK || got.GrantID != waits.RequestID || got.Credential == nil {
		t.Errorf("%d %s", r.status, r.body)
	}

	form = tokenForm(w.token("bob", "team"), "prod")
	decode(t, strings.NewReader(postForm(t, w, c, "/oauth/token", form).body), &waits)
	one, err = w.lead().Request(t.Context(), cred.GrantID(waits.RequestID))
	must(t, err)
	_, err = w.lead().Review(t.Context(), cred.GrantID(waits.RequestID), one.GetDigest(), cred.Verdict{})
	must(t, err)
	form.Set("request_id", waits.RequestID)
	if r = postForm(t, w, c, "/oauth/token", form); r.status != http.StatusBadRequest || !strings.Contains(r.body, "access_denied") {
		t.Errorf("after a refusal: %d %s", r.status, r.body)
	}
}

func TestQuotaSaysWhenToRetry(t *testing.T) {
	w := newWorld(t, settings{})
	ann := w.member()
	for range 3 {
		_, err := ann.Exchange(t.Context(), cred.Request{Target: "prod"})
		must(t, err)
	}
	_, err := ann.Exchange(t.Context(), cred.Request{Target: "prod"})
	wantRefusal(t, err, cred.Exhausted, "QUOTA_EXCEEDED")
	if after, ok := cred.RetryAfter(err); !ok || after <= 0 || after > 20*time.Minute {
		t.Errorf("over gRPC: after %s, %v", after, ok)
	}
	r := postForm(t, w, w.web(false), "/oauth/token", tokenForm(w.token("ann", "team"), "prod"))
	if r.status != http.StatusTooManyRequests || r.header.Get("Retry-After") == "" || r.header.Get("Retry-After") == "1" {
		t.Errorf("over HTTP: %d %v", r.status, r.header)
	}
}

// An agent's token rides along, and what is granted names both.
func TestAgentOverTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	agent := w.token("bot", "team")
	got, err := w.member().Exchange(t.Context(), cred.Request{Target: "api"}, sdk.ActedForBy(cred.SecretString(agent)))
	must(t, err)
	if claims := payloadOf(t, got.Token.RevealString()); claims["sub"] != "ann" || claims["act"].(map[string]any)["sub"] != "bot" {
		t.Errorf("the token says %v", claims)
	}
	if e := w.events(audit.ExchangeGranted); len(e) != 1 || e[0].Principal.Actor == nil || e[0].Principal.Actor.Subject != "bot" || e[0].Principal.Actor.Kind != cred.KindAgent {
		t.Errorf("recorded %+v", e)
	}
	_, err = w.member().Exchange(t.Context(), cred.Request{Target: "api"}, sdk.ActedForBy(cred.SecretString(w.token("stranger"))))
	if cred.KindOf(err) != cred.Denied && cred.KindOf(err) != cred.NotFound {
		t.Errorf("an agent that may not: %v", err)
	}
	_, err = w.member().Exchange(t.Context(), cred.Request{Target: "api"}, sdk.ActedForBy(cred.SecretString(agent[:len(agent)-4]+"AAAA")))
	if cred.KindOf(err) != cred.Unauthenticated {
		t.Errorf("a forged agent: %v", err)
	}
	_, err = w.member().Exchange(t.Context(), cred.Request{Target: "api"}, sdk.ActedForBy(cred.SecretString(w.token("ann", "team"))))
	wantRefusal(t, err, cred.Invalid, "ACTOR_IS_SUBJECT")

	form := tokenForm(w.token("ann", "team"), "api")
	form.Set("actor_token", agent)
	form.Set("actor_token_type", "urn:ietf:params:oauth:token-type:jwt")
	r := postForm(t, w, w.web(false), "/oauth/token", form)
	var answer tokenAnswer
	decode(t, strings.NewReader(r.body), &answer)
	if r.status != http.StatusOK || payloadOf(t, answer.AccessToken)["act"] == nil {
		t.Errorf("over HTTP: %d %s", r.status, r.body)
	}
}

func payloadOf(t *testing.T, tok string) map[string]any {
	t.Helper()
	parts := strings.Split(tok, ".")
	if len(parts) != 3 {
		t.Fatalf("no token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	var claims map[string]any
	must(t, json.Unmarshal(raw, &claims))
	return claims
}

func TestBindingOverTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	ctx := t.Context()
	key, err := dpop.NewKey()
	must(t, err)
	sign := func(k *dpop.Key, url string) func(string, string) (string, error) {
		return func(method, there string) (string, error) {
			if url != "" {
				there = url
			}
			return k.Sign(dpop.Want{Method: method, URL: there}, "", time.Now())
		}
	}
	got, err := w.member().Exchange(ctx, cred.Request{Target: "api"}, sdk.BoundByProof(sign(key, "")))
	must(t, err)
	cnf, _ := payloadOf(t, got.Token.RevealString())["cnf"].(map[string]any)
	if !maps.Equal(cnf, map[string]any{"jkt": key.Thumbprint()}) || got.Grant.GetBinding() != "dpop" {
		t.Errorf("cnf %v, binding %q", cnf, got.Grant.GetBinding())
	}
	if e := w.events(audit.ExchangeGranted); e[0].Request.Binding != "dpop" {
		t.Errorf("recorded %+v", e[0].Request)
	}
	_, err = w.edge().Redeem(ctx, got.Token) // a proxy has checked the key
	must(t, err)
	_, err = w.as(got.Token.RevealString()).Revoke(ctx, "", "found in a log") // no proof is asked for that
	must(t, err)

	_, err = w.member().Exchange(ctx, cred.Request{Target: "api"}, sdk.BoundByProof(sign(key, w.url+"/elsewhere")))
	wantRefusal(t, err, cred.Unauthenticated, "INVALID_DPOP_PROOF")
	once, err := key.Sign(dpop.Want{Method: "POST", URL: w.url + pb.ExchangeService_Exchange_FullMethodName}, "", time.Now())
	must(t, err)
	replay := sdk.BoundByProof(func(string, string) (string, error) { return once, nil })
	_, err = w.member().Exchange(ctx, cred.Request{Target: "api"}, replay)
	must(t, err)
	_, err = w.member().Exchange(ctx, cred.Request{Target: "api"}, replay)
	wantRefusal(t, err, cred.Unauthenticated, "DPOP_PROOF_REPLAYED")
	if e := w.events(audit.ExchangeDenied); len(e) != 2 || e[1].Error.Reason != "DPOP_PROOF_REPLAYED" || e[1].Principal.Subject != "ann" {
		t.Errorf("recorded %+v", e)
	}

	pair := newAuthority(t).client() // of nobody's CA
	own, err := sdk.Dial(w.url, sdk.StaticToken(cred.SecretString(w.token("ann", "team"))), w.tls(pair))
	must(t, err)
	defer own.Close()
	got, err = own.Exchange(ctx, cred.Request{Target: "api"}, sdk.BoundToCertificate())
	must(t, err)
	sum := sha256.Sum256(pair.Certificate[0])
	cnf, _ = payloadOf(t, got.Token.RevealString())["cnf"].(map[string]any)
	if !maps.Equal(cnf, map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}) {
		t.Errorf("cnf %v", cnf)
	}
	_, err = w.member().Exchange(ctx, cred.Request{Target: "api"}, sdk.BoundToCertificate())
	wantRefusal(t, err, cred.Invalid, "NO_CERTIFICATE")
	_, err = own.Exchange(ctx, cred.Request{Target: "api"}, sdk.BoundToCertificate(), sdk.BoundByProof(sign(key, "")))
	wantRefusal(t, err, cred.Invalid, "ONE_BINDING")
}

func TestLocksOverTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	ctx := t.Context()
	guard := w.as(w.token("guard", "security"))
	_, err := w.member().Exchange(ctx, cred.Request{Target: "api"})
	must(t, err)
	for _, r := range []*pb.LockRequest{{Reason: "r"}, {Reason: "r", Target: "api", Everything: true}} {
		_, err = guard.Lock(ctx, r)
		wantRefusal(t, err, cred.Invalid, "LOCK_INVALID")
	}
	locked, err := guard.Lock(ctx, &pb.LockRequest{Subject: "ann", Reason: "stolen"})
	must(t, err)
	if locked.GetRevokedGrants() != 1 || locked.GetLock().GetSetBy().GetSubject() != "guard" {
		t.Errorf("locked: %v", locked)
	}
	_, err = w.member().Exchange(ctx, cred.Request{Target: "api"})
	wantRefusal(t, err, cred.Denied, "LOCKED")
	all, err := guard.Locks(ctx)
	must(t, err)
	if len(all) != 1 || all[0].GetSubject() != "ann" {
		t.Errorf("locks: %v", all)
	}
	_, err = guard.Unlock(ctx, locked.GetLock().GetId(), "found")
	must(t, err)
	_, err = w.member().Exchange(ctx, cred.Request{Target: "api"})
	must(t, err)
	_, err = w.member().Lock(ctx, &pb.LockRequest{Subject: "ann", Reason: "r"})
	wantRefusal(t, err, cred.Denied, "ROLE_MISSING")
}

func TestStandingOverTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	ctx := t.Context()
	s, err := w.lead().ProposeStanding(ctx, &pb.ProposeStandingRequest{
		Rule: "prod-on-request", Target: "prod", Claims: map[string]string{"preferred_username": "ann"},
		ExpireTime: timestamppb.New(time.Now().Add(time.Hour)), Reason: "release week",
	})
	must(t, err)
	if s.GetState() != "in_force" || len(s.GetApprovals()) != 1 || len(s.GetDigest()) != 64 {
		t.Errorf("proposed: %v", s)
	}
	got, err := w.member().Exchange(ctx, cred.Request{Target: "prod"})
	must(t, err)
	if got.Pending() || got.Credential == nil {
		t.Error("it was not let through")
	}
	all, err := w.lead().Standing(ctx)
	must(t, err)
	if len(all) != 1 || all[0].GetUses() != 1 {
		t.Errorf("listed: %v", all)
	}
	_, err = w.lead().ReviewStanding(ctx, s.GetId(), s.GetDigest(), cred.Verdict{Approve: true})
	wantRefusal(t, err, cred.Conflict, "NOT_PENDING")
	_, err = w.lead().RevokeStanding(ctx, s.GetId(), "over")
	must(t, err)
	if got, err = w.member().Exchange(ctx, cred.Request{Target: "prod"}); err != nil || !got.Pending() {
		t.Errorf("after its end: %v %v", got.Pending(), err)
	}
}

func TestPolicyOverTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	ctx := t.Context()
	d, err := w.member().Explain(ctx, cred.Request{Target: "prod"})
	must(t, err)
	if !d.GetAllowed() || d.GetDemand().GetAllOf()[0].GetGroup() != "leads" || d.GetTtl().AsDuration() != 10*time.Minute {
		t.Errorf("explained: %v", d)
	}
	auditor := w.as(w.token("aud", "audit"))
	text, err := auditor.Policy(ctx, "")
	must(t, err)
	if text.GetPolicyHash() != d.GetPolicyHash() || !strings.Contains(text.GetText(), "prod-on-request") {
		t.Errorf("the text of %s", text.GetPolicyHash())
	}
	all, err := auditor.Policies(ctx)
	must(t, err)
	if len(all) != 1 || !all[0].GetCurrent() || all[0].GetPolicyHash() != d.GetPolicyHash() {
		t.Errorf("listed: %v", all)
	}
	_, err = w.member().Policy(ctx, "")
	wantRefusal(t, err, cred.Denied, "ROLE_MISSING")
}

func TestWatchOverTheWire(t *testing.T) {
	w := newWorld(t, settings{})
	ctx, cancel := context.WithCancel(t.Context())
	seen, ended := make(chan *pb.AccessRequest, 5), make(chan error, 1)
	lead := w.lead()
	go func() { ended <- lead.WatchRequests(ctx, func(r *pb.AccessRequest) error { seen <- r; return nil }) }()
	if r := <-seen; r != nil {
		t.Errorf("at first %v", r)
	}
	asked, err := w.member().Exchange(t.Context(), cred.Request{Target: "prod"})
	must(t, err)
	if r := <-seen; r.GetGrant().GetId() != asked.Grant.GetId() {
		t.Errorf("saw %v", r)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("it ended without saying why")
	}
}

// Those who wait for others take no place of those who ask.
func TestWaitingTakesNoPlaceOfCalls(t *testing.T) {
	w := newWorld(t, settings{options: rpc.Options{MaxInFlight: 1}})
	ctx, cancel := context.WithCancel(t.Context())
	asked, err := w.member().Exchange(t.Context(), cred.Request{Target: "prod"})
	must(t, err)
	waiting, ended := make(chan struct{}), make(chan error, 1)
	client := w.member()
	go func() {
		ended <- client.Wait(ctx, cred.GrantID(asked.Grant.GetId()), func(*pb.WaitResponse) error { close(waiting); return nil })
	}()
	<-waiting
	if _, err := w.member().WhoAmI(t.Context()); err != nil {
		t.Errorf("beside one who waits: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the wait ended with %v", err)
	}
}

// A caller without rights learns nothing of a target from how it is refused: by text, code or reason.
func TestMissingLooksLikeForbidden(t *testing.T) {
	w := newWorld(t, settings{})
	stranger := w.as(w.token("eve"))
	for _, ask := range []func(target string) error{
		func(target string) error {
			_, err := stranger.Exchange(t.Context(), cred.Request{Target: target})
			return err
		},
		func(target string) error {
			d, err := stranger.Explain(t.Context(), cred.Request{Target: target})
			must(t, err)
			return &cred.Error{Kind: cred.NotFound, Op: "exchange", Reason: d.GetReason(), Public: d.GetMessage()}
		},
	} {
		var answers []string
		for _, target := range []string{"hidden", "absent"} {
			e, ok := asError(ask(target))
			if !ok || e.Kind != cred.NotFound {
				t.Fatalf("%s: %v", target, e)
			}
			answers = append(answers, e.Reason+" "+e.Rule+" "+e.Claim+" "+strings.ReplaceAll(e.Public, target, "X"))
		}
		if answers[0] != answers[1] {
			t.Errorf("%q differs from %q", answers[0], answers[1])
		}
	}
}

func asError(err error) (*cred.Error, bool) { return errors.AsType[*cred.Error](err) }
