package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

// installation is what GitHub says of the app at one owner.
type installation struct {
	ID      int64 `json:"id"`
	Account struct {
		ID    int64  `json:"id"`
		Login string `json:"login"`
	} `json:"account"`
	SuspendedAt *time.Time `json:"suspended_at"`
}

// installation returns the app's installation at an owner, from memory where it was asked before.
func (i *Issuer) installation(ctx context.Context, w want) (installation, error) {
	key := strings.ToLower(w.owner)
	i.mu.Lock()
	found, known := i.installations[key]
	i.mu.Unlock()
	if !known {
		var err error
		if found, err = i.lookUp(ctx, w.owner); err != nil {
			return installation{}, err
		}
		i.mu.Lock()
		i.installations[key] = found
		i.mu.Unlock()
	}
	if w.ownerID != 0 && w.ownerID != found.Account.ID {
		i.forget(w.owner)
		return installation{}, noInstallation("another account has the name that this target's owner had; its operator has to look at it",
			fmt.Errorf("github: %s is the account %d, not %d", w.owner, found.Account.ID, w.ownerID))
	}
	return found, nil
}

// forget makes the next token look the installation up anew.
func (i *Issuer) forget(owner string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.installations, strings.ToLower(owner))
}

// lookUp asks GitHub: an owner is an organization or a user.
func (i *Issuer) lookUp(ctx context.Context, owner string) (installation, error) {
	var err error
	for _, kind := range []string{"orgs", "users"} {
		var got tokenapi.Answer
		got, err = asApp(ctx, i, func(jwt cred.Secret) (tokenapi.Answer, error) {
			return i.api.DoPatiently(ctx, tokenapi.Call{Method: "GET", Path: "/" + kind + "/" + url.PathEscape(owner) + "/installation", Token: jwt, Want: 200})
		})
		if err == nil {
			return readInstallation(owner, got)
		}
		if tokenapi.StatusOf(err) != http.StatusNotFound {
			return installation{}, harmless("github.installation", err)
		}
	}
	return installation{}, noInstallation("the GitHub App is not installed at this target's owner; its operator has to install it there", err)
}

func readInstallation(owner string, got tokenapi.Answer) (installation, error) {
	var found installation
	err := json.Unmarshal(got.Body, &found)
	switch {
	case err != nil:
		return installation{}, issuer.NotIssued("github.installation", "", publicGone, fmt.Errorf("github: the installation can't be read: %w", err))
	case found.ID <= 0 || !strings.EqualFold(found.Account.Login, owner):
		return installation{}, noInstallation("GitHub named another account than this target's owner; its operator has to look at it",
			fmt.Errorf("github: asked for %s, got the installation %d of %.100q", owner, found.ID, found.Account.Login))
	case found.SuspendedAt != nil:
		return installation{}, noInstallation("the GitHub App's installation at this target's owner is suspended; its operator has to look at it",
			errors.New("github: suspended"))
	}
	return found, nil
}

func noInstallation(public string, err error) error {
	return &cred.Error{Kind: cred.Invalid, Op: "github.installation", Reason: "NO_INSTALLATION", Public: public, Err: err}
}
