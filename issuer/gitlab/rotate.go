package gitlab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	// defaultTokenLife is how long a token lives that takes another one's place.
	defaultTokenLife = 30 * 24 * time.Hour
	// tries is how often the new token is written to where it is kept, before the rotation has to try again.
	tries = 3
)

// TokenConfig describes a GitLab token that is kept somewhere, and is to be replaced from time to
// time.
type TokenConfig struct {
	// Config says where GitLab is. With Root, the new token of a project is made beside the old one:
	// both work until the old one is retired, and a token whose answer was lost is found by its name.
	//
	// Without Root the token rotates itself, and that is not safe against everything. GitLab ends the
	// old token at that instant, its answer has the only copy of the new one, and whoever then uses the
	// old one ends the new one too. So if the answer is lost, the credential is lost: the rotation
	// fails with kind Invalid and a person has to make a new token; and who has read the old token
	// before, and uses it after, breaks the new one.
	Config
	// Project is the project of a project access token, by number or path; empty for a personal access
	// token, which only rotates itself.
	Project string
	// Field is the secret's field that holds the token; empty: "token".
	Field string
	// Life is how long a new token lives, up to the midnight UTC after it; zero means 30 days.
	Life time.Duration
}

// NewToken returns what issuer/kv needs to rotate the token: a kv.Opener. It fails with kind Invalid
// where the configuration can't work.
func NewToken(cfg TokenConfig) (*Token, error) {
	if cfg.Project != "" && !isProject(cfg.Project) {
		return nil, invalidConfig("project must be a project's number, or its full path such as group/project", nil)
	}
	if cfg.Root != nil && cfg.Project == "" {
		return nil, invalidConfig("a personal access token only rotates itself: leave the root token out, or name the project", nil)
	}
	if cfg.Field == "" {
		cfg.Field = "token"
	}
	if cfg.Life <= 0 {
		cfg.Life = defaultTokenLife
	}
	api, err := newAPI(&cfg.Config)
	if err != nil {
		return nil, err
	}
	return &Token{cfg: cfg, issuer: newIssuer(api, cfg.Root), kept: map[string]cred.Secret{}}, nil
}

// Token is a GitLab token that is kept elsewhere. It is safe for concurrent use.
type Token struct {
	cfg    TokenConfig
	issuer *Issuer // with a root

	mu   sync.Mutex             // owns kept
	kept map[string]cred.Secret // by rotation: the only copy of a token that could not be stored yet
}

// Close lets go of idle connections.
func (t *Token) Close() error { return t.issuer.Close() }

// self asks GitLab about a token, with that token. Any scope allows it. Kind Denied says that the
// token does not work.
func (t *Token) self(ctx context.Context, secret cred.Secret) (token, error) {
	if spendable(secret.RevealString()).IsZero() {
		return token{}, &cred.Error{Kind: cred.Invalid, Op: "gitlab.self", Reason: "SECRET_INCOMPLETE", Public: "the secret has no GitLab token in its field"}
	}
	got, err := t.issuer.api.DoPatiently(ctx, tokenapi.Call{Method: http.MethodGet, Path: "/personal_access_tokens/self", Token: secret, Want: http.StatusOK})
	if tokenapi.StatusOf(err) == http.StatusUnauthorized {
		return token{}, &cred.Error{Kind: cred.Denied, Op: "gitlab.self", Reason: "TOKEN_REFUSED", Public: "GitLab refuses this token: it has ended or was revoked", Err: err}
	}
	if err != nil {
		return token{}, rotating("gitlab.self", err)
	}
	var self token
	if err := json.Unmarshal(got.Body, &self); err != nil || self.ID <= 0 {
		return token{}, rotating("gitlab.self", errors.New("gitlab: the answer can't be read"))
	}
	return self, nil
}

// Works asks GitLab about the token.
func (t *Token) Works(ctx context.Context, v map[string]cred.Secret) error {
	_, err := t.self(ctx, v[t.cfg.Field])
	return err
}

// Check looks whether the token can be replaced.
func (t *Token) Check(ctx context.Context, _ issuer.Rotation, current map[string]cred.Secret) ([]cred.Finding, error) {
	self, err := t.self(ctx, current[t.cfg.Field])
	if err != nil {
		return nil, err
	}
	findings := []cred.Finding{{Name: "token", OK: true, Text: fmt.Sprintf("number %d ends on %q", self.ID, self.ExpiresAt)}}
	if t.cfg.Root == nil {
		may := slices.Contains(self.Scopes, "api") || slices.Contains(self.Scopes, "self_rotate")
		return append(findings, cred.Finding{Name: "may rotate itself", OK: may, Text: fmt.Sprintf("it needs the scope api or self_rotate and has %q; without a root token a lost answer loses it", self.Scopes)}), nil
	}
	switch _, err := t.described(ctx, self.ID); {
	case err == nil:
		findings = append(findings, cred.Finding{Name: "root token", OK: true, Text: "sees the token among its project's"})
	case cred.KindOf(err) == cred.Unavailable:
		return nil, err
	default:
		findings = append(findings, cred.Finding{Name: "root token", Text: cred.PublicText(err)})
	}
	return findings, nil
}

// described asks with the root token for a token of the project, which has its role.
func (t *Token) described(ctx context.Context, id int64) (token, error) {
	got, err := t.issuer.do(ctx, tokenapi.Call{Method: http.MethodGet, Path: fmt.Sprintf("%s/%d", tokensPath(t.cfg.Project), id), Want: http.StatusOK})
	if err != nil {
		return token{}, rotating("gitlab.describe", err)
	}
	var found token
	if err := json.Unmarshal(got.Body, &found); err != nil || found.ID != id {
		return token{}, rotating("gitlab.describe", errors.New("gitlab: the answer can't be read"))
	}
	return found, nil
}

func replacementName(r issuer.Rotation) string { return "daypass-" + r.ID }

// Next makes a token with the same scopes and role beside the current one, where there is a root
// token. One that an earlier try has made, and whose answer was lost, is ended first.
func (t *Token) Next(ctx context.Context, r issuer.Rotation, current map[string]cred.Secret) (map[string]cred.Secret, error) {
	if t.cfg.Root == nil {
		return nil, nil
	}
	self, err := t.self(ctx, current[t.cfg.Field])
	if err != nil {
		return nil, err
	}
	now, err := t.described(ctx, self.ID)
	if err != nil {
		return nil, err
	}
	if err := t.endOthers(ctx, r, 0); err != nil {
		return nil, err
	}
	slices.Sort(now.Scopes)
	w := want{project: t.cfg.Project, scopes: now.Scopes, level: now.AccessLevel}
	send := func(r tokenapi.Call) (tokenapi.Answer, error) { return t.issuer.do(ctx, r) }
	made, err := t.issuer.mint(ctx, send, w, replacementName(r), t.end())
	if err != nil {
		return nil, rotating("gitlab.prepare", err)
	}
	return map[string]cred.Secret{t.cfg.Field: spendable(made.Token)}, nil
}

func (t *Token) end() time.Time {
	now := t.issuer.now()
	return endOf(now, now.Add(t.cfg.Life))
}

// endOthers ends what this rotation has made, except one.
func (t *Token) endOthers(ctx context.Context, r issuer.Rotation, except int64) error {
	made, err := t.issuer.named(ctx, t.cfg.Project, replacementName(r))
	if err != nil {
		return rotating("gitlab.list", err)
	}
	for _, m := range made {
		if m.ID == except {
			continue
		}
		if err := t.issuer.end(ctx, t.cfg.Project, m.ID); err != nil {
			return rotating("gitlab.end", err)
		}
	}
	return nil
}

// Change puts a token into its place that works already; or the token rotates itself, and what comes
// back is put there at once.
func (t *Token) Change(ctx context.Context, r issuer.Rotation, from, to map[string]cred.Secret, put func(context.Context, map[string]cred.Secret) error) (map[string]cred.Secret, error) {
	if t.cfg.Root == nil && to == nil {
		return t.rotateSelf(ctx, r, from, put)
	}
	if err := t.Works(ctx, to); cred.KindOf(err) == cred.Denied {
		return nil, noMore(err)
	} else if err != nil {
		return nil, err
	}
	return nil, put(ctx, to)
}

// rotateSelf asks once for a rotation. Above the first attempt it looks first whether the token still
// works: if it doesn't, an earlier try was done, and its answer is lost. To ask with the old token
// does no harm then: the new one, which that may end, is nobody's.
func (t *Token) rotateSelf(ctx context.Context, r issuer.Rotation, from map[string]cred.Secret, put func(context.Context, map[string]cred.Secret) error) (map[string]cred.Secret, error) {
	t.mu.Lock()
	fresh, kept := t.kept[r.ID]
	t.mu.Unlock()
	if !kept {
		if r.Attempt > 1 {
			if err := t.Works(ctx, from); cred.KindOf(err) == cred.Denied {
				return nil, lostForGood(err)
			} else if err != nil {
				return nil, err
			}
		}
		var err error
		if fresh, err = t.rotate(ctx, from[t.cfg.Field]); err != nil {
			return nil, err
		}
		t.mu.Lock()
		t.kept[r.ID] = fresh
		t.mu.Unlock()
	}
	learned := map[string]cred.Secret{t.cfg.Field: fresh}
	if err := t.store(ctx, from, learned, put); err != nil {
		return learned, err
	}
	t.mu.Lock()
	delete(t.kept, r.ID)
	t.mu.Unlock()
	return learned, nil
}

// store puts the only copy of a token away, with more than one try.
func (t *Token) store(ctx context.Context, from, learned map[string]cred.Secret, put func(context.Context, map[string]cred.Secret) error) error {
	whole := maps.Clone(from)
	maps.Copy(whole, learned)
	for try := 1; ; try++ {
		err := put(ctx, whole)
		if err == nil || try == tries || !outbound.Pause(ctx, time.Duration(try)*100*time.Millisecond) {
			if err == nil {
				return nil
			}
			return &cred.Error{
				Kind: cred.Unavailable, Op: "gitlab.store", Reason: "TOKEN_NOT_STORED", Err: err,
				Public: "GitLab has rotated the token and the new one could not be written to Vault; the broker keeps it as long as it runs, and tries again",
			}
		}
	}
}

// rotationRequest asks for a rotation.
type rotationRequest struct {
	ExpiresAt string `json:"expires_at"`
}

// rotate asks once, and is as patient as mint is. The answer is the only copy of the new token.
func (t *Token) rotate(ctx context.Context, old cred.Secret) (cred.Secret, error) {
	path := "/personal_access_tokens/self/rotate"
	if t.cfg.Project != "" {
		path = tokensPath(t.cfg.Project) + "/self/rotate"
	}
	got, err := t.issuer.api.Do(ctx, tokenapi.Call{
		Method: http.MethodPost, Path: path, Token: old, Body: rotationRequest{ExpiresAt: t.end().Format(dateForm)}, Want: http.StatusOK, Timeout: mintTimeout,
	})
	if err != nil && got.Status/100 != 2 {
		return cred.Secret{}, rotating("gitlab.rotate", err)
	}
	var made token
	if json.Unmarshal(got.Body, &made) != nil || spendable(made.Token).IsZero() {
		return cred.Secret{}, lostForGood(errors.New("gitlab: the answer to a rotation holds no token"))
	}
	return spendable(made.Token), nil
}

// Undo puts the old token back, if there still is one.
func (t *Token) Undo(ctx context.Context, r issuer.Rotation, from, to map[string]cred.Secret, put func(context.Context, map[string]cred.Secret) error) error {
	if t.cfg.Root == nil {
		return t.undoSelf(ctx, from, to, put)
	}
	if _, err := t.Change(ctx, r, to, from, put); err != nil {
		return err
	}
	return t.End(ctx, r, from, to)
}

// undoSelf has nothing to undo where the token was not rotated. Where it was, the old token must not
// even be tried: GitLab would end the new one.
func (t *Token) undoSelf(ctx context.Context, from, to map[string]cred.Secret, put func(context.Context, map[string]cred.Secret) error) error {
	if to != nil {
		return noMore(errors.New("gitlab: the token was rotated"))
	}
	if err := put(ctx, from); cred.KindOf(err) == cred.Conflict {
		return noMore(err) // another token stands in its place: ours, of which we know nothing
	} else if err != nil {
		return err
	}
	if err := t.Works(ctx, from); cred.KindOf(err) == cred.Denied {
		return lostForGood(err)
	} else if err != nil {
		return err
	}
	return nil
}

// End ends the old token, and whatever else this rotation has made. A token that has rotated itself
// has ended the old one, which is not tried: that would end the new one too.
func (t *Token) End(ctx context.Context, r issuer.Rotation, stays, gone map[string]cred.Secret) error {
	if t.cfg.Root == nil {
		return nil
	}
	self, err := t.self(ctx, stays[t.cfg.Field])
	if err != nil {
		return err
	}
	if err := t.endOthers(ctx, r, self.ID); err != nil {
		return err
	}
	if secret, known := gone[t.cfg.Field]; known && secret.Fingerprint() != stays[t.cfg.Field].Fingerprint() {
		return t.endSelf(ctx, secret)
	}
	return nil
}

// endSelf ends a token with itself, which any scope allows, and makes sure that it has ended.
func (t *Token) endSelf(ctx context.Context, secret cred.Secret) error {
	_, err := t.issuer.api.DoPatiently(ctx, tokenapi.Call{Method: http.MethodDelete, Path: "/personal_access_tokens/self", Token: secret, Want: http.StatusNoContent})
	if err != nil && tokenapi.StatusOf(err) != http.StatusUnauthorized {
		return rotating("gitlab.end", err)
	}
	switch _, err := t.self(ctx, secret); {
	case err == nil:
		return &cred.Error{Kind: cred.Conflict, Op: "gitlab.end", Reason: "OLD_WORKS", Public: "GitLab still takes the old token after it has confirmed its end; look at it there"}
	case cred.KindOf(err) != cred.Denied:
		return err
	}
	return nil
}

// rotating says what a failed request means for a rotation: Unavailable where it may have been done,
// or may go well later.
func rotating(op string, err error) error {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	e := &cred.Error{Kind: cred.Unavailable, Op: op, Public: publicGone, Err: err}
	switch failed := tokenapi.CallOf(err); {
	case failed == nil:
	case failed.Limited > 0:
		e.Reason, e.Public, e.RetryAfter = "SOURCE_LIMITS", publicLimited, failed.Limited
	case failed.Answer.Status >= 300 && failed.Answer.Status < 500:
		e.Kind, e.Reason, e.Public = cred.Invalid, "SOURCE_REFUSED", "GitLab refuses to replace this token: look at its scopes, its project, and the root token's role there"
	}
	return e
}

func noMore(err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "gitlab.change", Reason: "TOKEN_ENDED", Err: err,
		Public: "the GitLab token that should take the place does not work any more, so it was not put there",
	}
}

func lostForGood(err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "gitlab.rotate", Reason: "CREDENTIAL_LOST", Err: err,
		Public: "GitLab has rotated the token, and the answer with the new one was lost: no token works any more; make a new one in GitLab and write it to Vault",
	}
}
