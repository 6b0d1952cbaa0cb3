package github

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// maxToken bounds a token, which has to fit into a header. GitHub's have 40 or some 520 characters,
// and it says that the length may change.
const maxToken = 8 << 10

// lifeSlack is by how much a token's hour may be over, since Date and expires_at are rounded.
const lifeSlack = time.Minute

// tokenRequest asks for a token. Neither list may be left out: without it GitHub gives everything.
type tokenRequest struct {
	Repositories []string          `json:"repositories"`
	Permissions  map[string]string `json:"permissions"`
}

// tokenAnswer is what GitHub says of a new token.
type tokenAnswer struct {
	Token        string            `json:"token"`
	ExpiresAt    time.Time         `json:"expires_at"`
	Permissions  map[string]string `json:"permissions"`
	Selection    string            `json:"repository_selection"`
	Repositories []struct {
		FullName string `json:"full_name"`
	} `json:"repositories"`
}

// minted is a token that is what was asked.
type minted struct {
	token  cred.Secret
	end    time.Time
	handle string
}

// readToken reads GitHub's answer. Where the answer has a token that is not what was asked, it
// returns the token too, to be revoked.
func readToken(w want, got tokenapi.Answer) (minted, error) {
	var a tokenAnswer
	if err := json.Unmarshal(got.Body, &a); err != nil {
		var bare struct {
			Token string `json:"token"`
		}
		_ = json.Unmarshal(got.Body, &bare) // the token may be readable where the rest is not
		return minted{token: spendable(bare.Token)}, fmt.Errorf("the answer can't be read: %w", err)
	}
	made := minted{token: spendable(a.Token), end: a.ExpiresAt}
	if made.token.IsZero() {
		return minted{}, errors.New("the answer holds no token")
	}
	return made, errors.Join(w.compareRepositories(a), w.comparePermissions(a.Permissions), compareLife(a.ExpiresAt, got))
}

// spendable returns a token that can be sent in a header, or nothing.
func spendable(token string) cred.Secret {
	if len(token) > maxToken || !tokenapi.Printable(token) {
		return cred.Secret{}
	}
	return cred.SecretString(token)
}

// compareRepositories wants exactly the repositories that were asked for. One that was renamed, or
// moved to another owner, is not: the rule names what it was called.
func (w want) compareRepositories(a tokenAnswer) error {
	if a.Selection != "selected" {
		return fmt.Errorf("the token is for %.20q repositories", a.Selection)
	}
	asked, given := map[string]bool{}, map[string]bool{}
	for _, name := range w.repositories {
		asked[strings.ToLower(w.owner+"/"+name)] = true
	}
	for _, r := range a.Repositories {
		given[strings.ToLower(r.FullName)] = true
	}
	if !maps.Equal(asked, given) {
		return fmt.Errorf("the token is for %d repositories that are not the %d asked for", len(given), len(asked))
	}
	return nil
}

// comparePermissions wants exactly the permissions that were asked for, and metadata:read, which
// comes with every other one.
func (w want) comparePermissions(given map[string]string) error {
	given = maps.Clone(given)
	if _, asked := w.permissions["metadata"]; !asked && given["metadata"] == "read" {
		delete(given, "metadata")
	}
	if !maps.Equal(w.permissions, given) {
		return fmt.Errorf("the token has the permissions %.500q, asked was %.500q", listed(given), listed(w.permissions))
	}
	return nil
}

func listed(permissions map[string]string) string {
	all := make([]string, 0, len(permissions))
	for name, level := range permissions {
		all = append(all, name+":"+level)
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// compareLife wants an end, within an hour by GitHub's own clock.
func compareLife(end time.Time, got tokenapi.Answer) error {
	now := got.Clock()
	if life := end.Sub(now); life <= 0 || life > maxLife+lifeSlack {
		return fmt.Errorf("the token ends at %v, which is not within an hour of %v", end, now)
	}
	return nil
}
