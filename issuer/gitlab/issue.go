package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	opIssue = "gitlab.issue"
	// gitUser is the user name that goes with a token to git over https; GitLab takes any.
	gitUser = "daypass"
	// dateForm is how GitLab writes an end.
	dateForm = "2006-01-02"
	// midnightSlack is how close to midnight a token may be made that ends then: by GitLab's clock it
	// may be past it, and GitLab refuses an end that is not in the future.
	midnightSlack = 5 * time.Minute
)

// Reserve names the token that Issue will make, without asking GitLab for anything.
func (i *Issuer) Reserve(_ context.Context, spec issuer.Spec) (string, error) {
	w, err := i.wanted(spec)
	if err != nil {
		return "", err
	}
	return i.handle(handle{project: w.project, name: tokenName(spec)}), nil
}

func (i *Issuer) wanted(spec issuer.Spec) (want, error) {
	if !i.now().Before(spec.NotAfter) {
		return want{}, &cred.Error{
			Kind: cred.Invalid, Op: opIssue, Reason: "ENDED", Public: "nothing is left of what was granted; ask for a new grant",
		}
	}
	return wanted(spec.Target.Credential, spec.Params)
}

// tokenName carries the lease's ID, by which a token is found whose answer was lost.
func tokenName(spec issuer.Spec) string { return "daypass-" + string(spec.ID) }

// Issue makes a token with the scopes and the role of the target's credential, or with those among
// them that the grant's parameters name. It ends at the first midnight UTC after the grant's end, by
// itself; the broker revokes it before.
func (i *Issuer) Issue(ctx context.Context, spec issuer.Spec) (cred.Credential, cred.Lease, error) {
	w, err := i.wanted(spec)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	end := endOf(i.now(), spec.NotAfter)
	made, err := i.fly(ctx, w, tokenName(spec), end)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, minting(err)
	}
	secret := spendable(made.Token)
	c := cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": secret}, NotAfter: end}
	if spec.Target.Credential.Type == cred.UserPassword {
		c.Type, c.Fields = cred.UserPassword, map[string]cred.Secret{"username": cred.SecretString(gitUser), "password": secret}
	}
	l := cred.Lease{Handle: i.handle(handle{project: w.project, name: made.Name, id: made.ID}), Revocable: true, NotAfter: end}
	if end.After(spec.NotAfter) {
		l.Note = "GitLab's tokens end at midnight UTC; this one is revoked when its grant ends"
	}
	return c, l, nil
}

// endOf returns the first midnight UTC at which a token may end that lasts until an instant.
func endOf(now, notAfter time.Time) time.Time {
	day := notAfter.UTC().Truncate(24 * time.Hour)
	for day.Before(notAfter) || day.Sub(now) < midnightSlack {
		day = day.AddDate(0, 0, 1)
	}
	return day
}

// tokenRequest asks for a token.
type tokenRequest struct {
	Name        string   `json:"name"`
	Scopes      []string `json:"scopes"`
	AccessLevel int      `json:"access_level"`
	ExpiresAt   string   `json:"expires_at"`
}

// mint asks for a token, by send, and compares what comes back with what was asked. A token that is not
// what was asked is revoked now. What it returns was made.
func (i *Issuer) mint(ctx context.Context, send func(tokenapi.Call) (tokenapi.Answer, error), w want, name string, end time.Time) (token, error) {
	ask := tokenRequest{Name: name, Scopes: w.scopes, AccessLevel: w.level, ExpiresAt: end.Format(dateForm)}
	got, err := send(tokenapi.Call{Method: http.MethodPost, Path: tokensPath(w.project), Body: ask, Want: http.StatusCreated})
	if err != nil && got.Status/100 != 2 {
		return token{}, err
	}
	made, unlike := readToken(got, ask)
	if err == nil && unlike == nil {
		return made, nil
	}
	return token{}, i.undo(ctx, w.project, name, errors.Join(err, unlike))
}

func tokensPath(project string) string {
	return "/projects/" + url.PathEscape(project) + "/access_tokens"
}

// readToken reads GitLab's answer.
func readToken(got tokenapi.Answer, ask tokenRequest) (token, error) {
	var made token
	if err := json.Unmarshal(got.Body, &made); err != nil {
		return token{}, errors.New("gitlab: the answer can't be read") // its text may hold the token
	}
	slices.Sort(made.Scopes)
	switch {
	case spendable(made.Token).IsZero() || made.ID <= 0:
		return made, errors.New("gitlab: the answer holds no token")
	case made.Name != ask.Name || made.Revoked:
		return made, fmt.Errorf("gitlab: the token is named %.100q", made.Name)
	case made.AccessLevel != ask.AccessLevel || !slices.Equal(made.Scopes, ask.Scopes):
		return made, fmt.Errorf("gitlab: the token has the role %d and the scopes %.300q", made.AccessLevel, made.Scopes)
	case made.ExpiresAt != ask.ExpiresAt:
		return made, fmt.Errorf("gitlab: the token ends on %.20q, asked was %q", made.ExpiresAt, ask.ExpiresAt)
	}
	return made, nil
}

// undo revokes what was made under a name and nobody may have.
func (i *Issuer) undo(ctx context.Context, project, name string, why error) error {
	if err := i.revoke(ctx, handle{project: project, name: name}); err != nil {
		return lost(fmt.Errorf("gitlab: a token that is not what was asked could not be revoked: %w", errors.Join(why, err)))
	}
	return &cred.Error{
		Kind: cred.Invalid, Op: opIssue, Reason: "SOURCE_GAVE_OTHER",
		Public: "GitLab made another token than was asked, so it was revoked and nobody got it; the broker's operator has to look at it",
		Err:    why,
	}
}
