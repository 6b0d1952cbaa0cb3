package gitlab

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// handlePrefix begins every handle of the form that this code writes.
const handlePrefix = "gitlab.v1."

// maxPages bounds how many pages of 100 tokens one project may have.
const maxPages = 100

// handle says which token a lease is for.
type handle struct {
	project string
	name    string
	id      int64 // zero in a reservation
}

// handle writes "gitlab.v1.INSTANCE.PROJECT.NAME.ID". The first part binds it to its GitLab, so that
// no change of the configuration ends a token of the same number at another.
func (i *Issuer) handle(h handle) string {
	b64 := base64.RawURLEncoding.EncodeToString
	return handlePrefix + strings.Join([]string{i.place, b64([]byte(h.project)), b64([]byte(h.name)), strconv.FormatInt(h.id, 10)}, ".")
}

// parseHandle reads what handle wrote for the GitLab of a place.
func parseHandle(text, place string) (handle, error) {
	rest, ok := strings.CutPrefix(text, handlePrefix)
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 4 || parts[0] != place {
		return handle{}, errors.New("gitlab: not a handle of this version and this GitLab")
	}
	project, err1 := base64.RawURLEncoding.DecodeString(parts[1])
	name, err2 := base64.RawURLEncoding.DecodeString(parts[2])
	id, err3 := strconv.ParseUint(parts[3], 10, 63)
	if err := errors.Join(err1, err2, err3); err != nil {
		return handle{}, err
	}
	if !isProject(string(project)) || !strings.HasPrefix(string(name), "daypass-") {
		return handle{}, errors.New("gitlab: not a handle of ours")
	}
	return handle{project: string(project), name: string(name), id: int64(id)}, nil
}

// Revoke ends a token, and every other one of its name: a token can be rotated by its holder, has
// another number then, and the same name. That GitLab knows none of them is success. A handle that
// this issuer did not write is refused with kind Invalid, and so is a project that GitLab does not
// show: it answers the same for one that is gone, with its tokens, and for one where the broker's own
// token has no role any more. A request that still makes the token is waited for, as its name finds
// nothing before that.
func (i *Issuer) Revoke(ctx context.Context, l cred.Lease) error {
	h, err := parseHandle(l.Handle, i.place)
	if err != nil {
		return &cred.Error{
			Kind: cred.Invalid, Op: "gitlab.revoke", Reason: "HANDLE_UNKNOWN",
			Public: "this lease was not made by this GitLab issuer, so its token can't be revoked; it ends by itself at midnight UTC",
			Err:    err,
		}
	}
	if err := i.awaitLanding(ctx, h.name); err != nil {
		return err
	}
	return i.revoke(ctx, h)
}

func (i *Issuer) revoke(ctx context.Context, h handle) error {
	if h.id != 0 {
		if err := i.end(ctx, h.project, h.id); err != nil {
			return notConfirmed(err)
		}
	}
	left, err := i.named(ctx, h.project, h.name)
	if tokenapi.StatusOf(err) == http.StatusNotFound {
		return &cred.Error{
			Kind: cred.Invalid, Op: "gitlab.revoke", Reason: "PROJECT_GONE",
			Public: "GitLab shows the broker no such project: either it is gone, and its tokens with it, or the broker's own token has no role there any more; its operator has to look at it",
			Err:    err,
		}
	}
	if err != nil {
		return notConfirmed(err)
	}
	for _, t := range left {
		if err := i.end(ctx, h.project, t.ID); err != nil {
			return notConfirmed(err)
		}
	}
	return nil
}

// end ends one token. GitLab answers 204; 404 for one that it does not know, or that has ended.
func (i *Issuer) end(ctx context.Context, project string, id int64) error {
	_, err := i.do(ctx, tokenapi.Call{Method: http.MethodDelete, Path: tokensPath(project) + "/" + strconv.FormatInt(id, 10), Want: http.StatusNoContent})
	if tokenapi.StatusOf(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// named returns a project's living tokens of a name. The filters are those of newer GitLabs; older
// ones ignore them.
func (i *Issuer) named(ctx context.Context, project, name string) (all []token, err error) {
	page := "1"
	for range maxPages {
		query := url.Values{"state": {"active"}, "search": {name}, "per_page": {"100"}, "page": {page}}
		got, err := i.do(ctx, tokenapi.Call{Method: http.MethodGet, Path: tokensPath(project) + "?" + query.Encode(), Want: http.StatusOK})
		if err != nil {
			return nil, err
		}
		var some []token
		if err := json.Unmarshal(got.Body, &some); err != nil {
			return nil, fmt.Errorf("gitlab: the list of tokens can't be read: %w", err)
		}
		some = slices.DeleteFunc(some, func(t token) bool { return t.Name != name || t.Revoked || !t.Active })
		all = append(all, some...)
		if page = got.Header.Get("X-Next-Page"); page == "" {
			return all, nil
		}
	}
	return nil, errors.New("gitlab: the project has more than 10000 tokens")
}

func notConfirmed(err error) error {
	if e, ok := errors.AsType[*cred.Error](err); ok {
		return e
	}
	return &cred.Error{
		Kind: cred.Unavailable, Op: "gitlab.revoke", Reason: "NOT_CONFIRMED",
		Public: "GitLab has not confirmed that the token has ended; the broker tries again", Err: err,
	}
}
