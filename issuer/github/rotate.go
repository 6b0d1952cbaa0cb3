package github

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// KeyRotatorConfig describes how the private key of a GitHub App is replaced. GitHub lets people alone
// make and delete such keys, so the rotation waits for a person twice: for the new key, and for the
// end of the old one. Between the two GitHub takes both.
type KeyRotatorConfig struct {
	Config         // of the app; its Signer is not used
	Key    KeyFile // the key in use, which the issuer reads for each signature; Switch replaces it
	Next   KeyFile // where a person puts the new key
	// Verify is what Verify mints, uses and revokes, as a target's credential without placeholders.
	// Where it has no parameters, GitHub is only asked who the app is.
	Verify cred.CredentialSource
}

// NewKeyRotator returns a rotator that has asked nothing of GitHub yet. It fails with kind Invalid
// where the configuration can't work.
func NewKeyRotator(cfg KeyRotatorConfig) (issuer.Rotator, error) {
	if cfg.Key.Path == "" || cfg.Next.Path == "" || filepath.Clean(cfg.Key.Path) == filepath.Clean(cfg.Next.Path) {
		return nil, invalidConfig("the rotation of a GitHub App's key needs the file with the key in use, and another one for the next", nil)
	}
	if len(cfg.Verify.Params) > 0 {
		if _, err := wanted(cfg.Verify, nil); err != nil {
			return nil, err
		}
	}
	cfg.Signer = cfg.Key
	if _, err := New(cfg.Config); err != nil {
		return nil, err
	}
	return &keyRotator{cfg: cfg}, nil
}

type keyRotator struct{ cfg KeyRotatorConfig }

// The notes of a rotation: the keys, as PEM.
const (
	noteOldKey = "github.old"
	noteNewKey = "github.new"
)

// appKey signs with a key that it holds.
type appKey struct{ key *rsa.PrivateKey }

// SignRS256 signs.
func (k appKey) SignRS256(_ context.Context, signingInput []byte) ([]byte, error) {
	digest := sha256.Sum256(signingInput)
	signature, err := rsa.SignPKCS1v15(rand.Reader, k.key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, badKey(err)
	}
	return signature, nil
}

// name returns the key's fingerprint as GitHub's settings show it: "SHA256:" and the base64 of the
// SHA-256 of the public key in DER form.
// https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/managing-private-keys-for-github-apps#verifying-private-keys
func (k appKey) name() string {
	der, err := x509.MarshalPKIXPublicKey(&k.key.PublicKey)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return "SHA256:" + base64.StdEncoding.EncodeToString(sum[:])
}

// Check looks whether the key in use works, and tells what a person has to do.
func (k *keyRotator) Check(ctx context.Context, _ issuer.Rotation) ([]cred.Finding, error) {
	current, err := k.current()
	if err != nil {
		return nil, err
	}
	app, err := k.ask(ctx, current)
	switch {
	case tokenapi.StatusOf(err) == http.StatusUnauthorized:
		return []cred.Finding{{Name: "key in use", Text: "GitHub does not take the key " + current.name()}}, nil
	case err != nil:
		return nil, unanswered("github.check", err)
	}
	findings := []cred.Finding{{Name: "key in use", OK: true, Text: "GitHub takes the key " + current.name()}}
	there := cred.Finding{Name: "next key", OK: true}
	if next, err := k.next(current); err == nil {
		there.Text = "is there already: " + next.name()
	} else {
		there.Text = "is not there yet; when the rotation has begun: " + k.toDo(app)
	}
	return append(findings, there), nil
}

// Prepare waits until the next key is there and GitHub takes it.
func (k *keyRotator) Prepare(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	current, err := k.current()
	if err != nil {
		return r, err
	}
	app, err := k.ask(ctx, current)
	if err != nil {
		return r, unanswered("github.prepare", err)
	}
	next, err := k.next(current)
	if err != nil {
		return r, waits("github.prepare", k.toDo(app), err)
	}
	if _, err := k.ask(ctx, next); tokenapi.StatusOf(err) == http.StatusUnauthorized {
		return r, waits("github.prepare", "GitHub does not take the key "+next.name()+": "+k.toDo(app), err)
	} else if err != nil {
		return r, unanswered("github.prepare", err)
	}
	r.Notes = maps.Clone(r.Notes)
	if r.Notes == nil {
		r.Notes = map[string]cred.Secret{}
	}
	r.Notes[noteOldKey], r.Notes[noteNewKey] = current.pem(), next.pem()
	r.Old, r.New = current.name(), next.name()
	return r, nil
}

// Switch puts the next key into the place of the one in use, which the issuer reads for its next
// signature.
func (k *keyRotator) Switch(_ context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	_, next, err := keysOf(r)
	if err != nil {
		return r, err
	}
	return r, k.install(next)
}

// Verify signs with the key that is in use now, mints a token, uses it and revokes it.
func (k *keyRotator) Verify(ctx context.Context, r issuer.Rotation) error {
	old, next, err := keysOf(r)
	if err != nil {
		return err
	}
	current, err := k.current()
	if err != nil {
		return err
	}
	if current.name() != next.name() {
		return &cred.Error{
			Kind: cred.Conflict, Op: "github.verify", Reason: "KEY_CHANGED",
			Public: "the key file in use holds another key than the rotation has put there; look who writes to it",
		}
	}
	if err := k.taken(ctx, current, old); err != nil || len(k.cfg.Verify.Params) == 0 {
		return err
	}
	return k.mint(ctx, r, current)
}

// taken makes sure that GitHub takes the new key, without which no token is made. It is refused for sure
// where GitHub says so before and after it takes the old one: where that is refused as well, or the answer
// is not GitHub's own, the trouble is another one, and the old key would not end it.
func (k *keyRotator) taken(ctx context.Context, next, old appKey) error {
	const op = "github.verify"
	_, err := k.ask(ctx, next)
	if !refusesKey(err) {
		return passes(op, err)
	}
	if _, err := k.ask(ctx, old); err != nil {
		return passes(op, err)
	}
	if _, err = k.ask(ctx, next); !refusesKey(err) {
		return passes(op, err)
	}
	return &cred.Error{
		Kind: cred.Invalid, Op: op, Reason: "KEY_REFUSED", Err: err,
		Public: "GitHub does not take the new key " + next.name() + ", and takes the old one: somebody has deleted the new key at GitHub; begin again with another one",
	}
}

// refusesKey reports whether it is GitHub that does not take a key, and not something on the way there.
func refusesKey(err error) bool {
	failed := tokenapi.CallOf(err)
	if failed == nil || failed.Answer.Status != http.StatusUnauthorized {
		return false
	}
	said, _ := readRefusal(failed.Answer)
	return said != ""
}

// passes is the error of a question whose answer says nothing of the key: it is asked again.
func passes(op string, err error) error {
	if err == nil {
		return nil
	}
	return harmless(op, err)
}

func (k *keyRotator) mint(ctx context.Context, r issuer.Rotation, key appKey) error {
	i, err := k.issuer(key)
	if err != nil {
		return err
	}
	defer func() { _ = i.Close() }()
	c, l, err := i.Issue(ctx, issuer.Spec{
		ID: cred.LeaseID(r.ID), NotAfter: time.Now().Add(maxLife), Target: cred.Target{Name: "rotation", Credential: cred.CredentialSource{Params: k.cfg.Verify.Params}},
	})
	if err != nil {
		return err
	}
	_, err = i.api.DoPatiently(ctx, tokenapi.Call{Method: http.MethodGet, Path: "/installation/repositories?per_page=1", Token: c.Fields["token"], Want: http.StatusOK})
	if revoked := i.Revoke(ctx, l); err == nil {
		err = revoked
	}
	return unanswered("github.verify", err)
}

// Retire waits until a person has deleted the old key, so that GitHub refuses it while it takes the
// new one. Nobody is asked to delete a key that is in use.
func (k *keyRotator) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	old, next, err := keysOf(r)
	if err != nil {
		return r, err
	}
	if err := k.inUse(next); err != nil {
		return r, err
	}
	app, err := k.ask(ctx, next)
	if err != nil {
		return r, unanswered("github.retire", err) // a refused old key would prove nothing
	}
	switch _, err := k.ask(ctx, old); {
	case err == nil:
		return r, waits("github.retire", "delete the private key "+old.name()+" of the GitHub App at "+app.settings()+"; the rotation then goes on by itself", errors.New("github: the old key works"))
	case !refusesKey(err):
		return r, passes("github.retire", err)
	}
	if err := k.inUse(next); err != nil { // clear removes what may be the only other copy
		return r, err
	}
	return r, k.clear(next)
}

// inUse makes sure that the issuer still signs with the new key.
func (k *keyRotator) inUse(next appKey) error {
	current, err := k.current()
	if err != nil {
		return &cred.Error{
			Kind: cred.Unavailable, Op: "github.retire", Reason: "KEY_FILE", Err: err,
			Public: "it can't be told whether the new key is in use, so the old one is to stay: " + cred.PublicText(err),
		}
	}
	if current.name() != next.name() {
		return &cred.Error{
			Kind: cred.Conflict, Op: "github.retire", Reason: "KEY_CHANGED",
			Public: fmt.Sprintf("the key file in use holds the key %s and not the new one %s any more; keep the old key at GitHub, put the new one back into that file (it is in %s), and look who writes there",
				current.name(), next.name(), k.cfg.Next.Path),
		}
	}
	return nil
}

// clear removes the next key's file, where it still holds the key that is in use now.
func (k *keyRotator) clear(used appKey) error {
	left, err := readKey(k.cfg.Next)
	if err != nil || left.name() != used.name() {
		return nil //nolint:nilerr // nothing of ours is there
	}
	if err := os.Remove(k.cfg.Next.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &cred.Error{Kind: cred.Unavailable, Op: "github.retire", Public: "the file of the next key can't be removed; the broker must be able to write to its directory", Err: err}
	}
	return nil
}

// Undo puts the old key back in the new one's place, as long as GitHub takes it. The new one is left to the
// person who made it.
func (k *keyRotator) Undo(ctx context.Context, r issuer.Rotation) error {
	if r.Notes[noteOldKey].IsZero() {
		return nil // nothing was changed
	}
	old, next, err := keysOf(r)
	if err != nil {
		return err
	}
	if current, err := k.current(); err == nil && current.name() != old.name() && current.name() != next.name() {
		return &cred.Error{
			Kind: cred.Conflict, Op: "github.undo", Reason: "KEY_CHANGED",
			Public: "the key file in use holds the key " + current.name() + ", which is not of this rotation, so it stays; look who writes there, and put the old key " + old.name() + " back, or the new one",
		}
	}
	if _, err := k.ask(ctx, old); refusesKey(err) {
		return &cred.Error{
			Kind: cred.Invalid, Op: "github.undo", Reason: "KEY_GONE", Err: err,
			Public: "GitHub does not take the old key of the GitHub App any more, so it is not put back",
		}
	} else if err != nil {
		return passes("github.undo", err)
	}
	return k.install(old)
}

// install replaces the key in use at one instant: whoever reads the file gets the one or the other.
func (k *keyRotator) install(key appKey) error {
	if current, err := readKey(k.cfg.Key); err == nil && current.name() == key.name() {
		return nil
	}
	err := keyfile.Replace(k.cfg.Key.Path, key.pem())
	if err == nil {
		return nil
	}
	if current, unread := readKey(k.cfg.Key); unread == nil && current.name() == key.name() {
		return &cred.Error{Kind: cred.Unavailable, Op: "github.switch", Public: "the disk has not confirmed the new key file; the broker tries again", Err: err}
	}
	return cannotWrite(err)
}

func cannotWrite(err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "github.switch", Reason: "KEY_FILE",
		Public: "the GitHub App's key file can't be replaced; the broker must be able to write to its directory", Err: err,
	}
}

func (k *keyRotator) current() (appKey, error) { return readKey(k.cfg.Key) }

// next returns the next key, which must not be the one in use.
func (k *keyRotator) next(current appKey) (appKey, error) {
	next, err := readKey(k.cfg.Next)
	if err == nil && next.name() == current.name() {
		err = errors.New("github: the file for the next key holds the key in use")
	}
	return next, err
}

func readKey(f KeyFile) (appKey, error) {
	key, err := f.read()
	return appKey{key}, err
}

// issuer returns an issuer that signs with a key.
func (k *keyRotator) issuer(key appKey) (*Issuer, error) {
	cfg := k.cfg.Config
	cfg.Signer = key
	return New(cfg)
}

// appAnswer is what GitHub says of an app.
type appAnswer struct {
	Slug  string `json:"slug"`
	URL   string `json:"html_url"`
	Owner struct {
		Login string `json:"login"`
		Type  string `json:"type"`
	} `json:"owner"`
}

// settings returns the page where a person makes and deletes the app's keys.
func (a appAnswer) settings() string {
	u, err := url.Parse(a.URL)
	if err != nil || u.Host == "" || a.Slug == "" {
		return "GitHub (Settings, Developer settings, GitHub Apps)"
	}
	path := "/settings/apps/" + url.PathEscape(a.Slug)
	if a.Owner.Type == "Organization" {
		path = "/organizations/" + url.PathEscape(a.Owner.Login) + path
	}
	return "https://" + u.Host + path
}

// toDo tells a person how the next key comes about.
func (k *keyRotator) toDo(app appAnswer) string {
	return fmt.Sprintf("generate a second private key of the GitHub App at %s and put it at %s with mode 0600; the rotation then goes on by itself", app.settings(), k.cfg.Next.Path)
}

// ask asks GitHub who the app is, with a JWT that a key has signed. Status 401 says that GitHub does
// not take the key: the clock is made up for.
func (k *keyRotator) ask(ctx context.Context, key appKey) (appAnswer, error) {
	i, err := k.issuer(key)
	if err != nil {
		return appAnswer{}, err
	}
	defer func() { _ = i.Close() }()
	got, err := asApp(ctx, i, func(jwt cred.Secret) (tokenapi.Answer, error) {
		return i.api.DoPatiently(ctx, tokenapi.Call{Method: http.MethodGet, Path: "/app", Token: jwt, Want: http.StatusOK})
	})
	if err != nil {
		return appAnswer{}, err
	}
	var app appAnswer
	if err := json.Unmarshal(got.Body, &app); err != nil {
		return appAnswer{}, fmt.Errorf("github: the app can't be read: %w", err)
	}
	return app, nil
}

// waits says what a person has to do.
func waits(op, todo string, err error) error {
	return &cred.Error{Kind: cred.Pending, Op: op, Reason: issuer.ReasonPersonNeeded, Public: todo, Err: err}
}

// unanswered turns a failed question into our error: a refusal is for good, everything else passes.
func unanswered(op string, err error) error {
	if err == nil {
		return nil
	}
	if s := tokenapi.StatusOf(err); s >= 300 && s < 500 && tokenapi.CallOf(err).Limited == 0 {
		return &cred.Error{Kind: cred.Invalid, Op: op, Reason: "SOURCE_REFUSED", Public: publicApp, Err: err}
	}
	return harmless(op, err)
}
