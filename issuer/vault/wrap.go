package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// The bounds of the parameter wrap: Vault's own smallest, and longer than anybody needs who unwraps at
// once.
const (
	minWrap = time.Second
	maxWrap = 5 * time.Minute
)

func wrapTTL(param string) (time.Duration, error) {
	if param == "" {
		return 0, nil
	}
	ttl, err := time.ParseDuration(param)
	if err != nil || ttl < minWrap || ttl > maxWrap || ttl%time.Second != 0 {
		return 0, invalidConfig(`the target's parameter "wrap" must be a time in whole seconds such as 30s, from 1s to 5m`, errors.New("vault: bad wrap"))
	}
	return ttl, nil
}

// unwrapped returns the answer that a wrapped one stands for. Whatever lies between us and Vault then
// sees a token in place of the secret; that token works once, so a secret that somebody else took out
// is noticed (https://developer.hashicorp.com/vault/docs/concepts/response-wrapping). That is an alarm,
// an error with the reason UNWRAP_FAILED: of kind Unavailable, as a credential exists that others may
// have.
func (i *Issuer) unwrapped(ctx context.Context, src source, answer *api.Secret) (*api.Secret, error) {
	if src.req.wrap == 0 {
		return answer, nil
	}
	if answer == nil || answer.WrapInfo == nil || answer.WrapInfo.Token == "" {
		return nil, unwrapAlarm("it came without the wrapping that was asked for", errors.New("vault: no wrap_info"))
	}
	token := cred.SecretString(answer.WrapInfo.Token)
	if err := i.checkWrapping(ctx, src, token); err != nil {
		return nil, err
	}
	// A second try after a lost answer would find the token used, by ourselves.
	inner, err := retrying(ctx, undone, func() (*api.Secret, error) {
		return i.client.do(ctx, request{method: "POST", path: "sys/wrapping/unwrap", token: token})
	})
	if err != nil {
		return nil, unwrapFailed(err)
	}
	return inner, nil
}

// checkWrapping makes sure that a wrapping token is unused and holds the answer to what was asked, and
// nothing that somebody else has wrapped.
func (i *Issuer) checkWrapping(ctx context.Context, src source, token cred.Secret) error {
	about, err := i.client.doRetrying(ctx, request{method: "POST", path: "sys/wrapping/lookup", body: map[string]any{"token": token.RevealString()}})
	if err != nil {
		return unwrapFailed(err)
	}
	if path, _ := answerData(about)["creation_path"].(string); path != src.req.path {
		return unwrapAlarm("its wrapping was made elsewhere", fmt.Errorf("vault: creation_path is %q, asked was %q", path, src.req.path))
	}
	return nil
}

// unwrapFailed tells a token that was used from a Vault that does not answer. Vault says 400 of a
// wrapping token that it does not know, or 403 where it is the one that signs the request.
func unwrapFailed(err error) error {
	if s := statusOf(err); s == http.StatusBadRequest || s == http.StatusForbidden || s == http.StatusNotFound {
		return unwrapAlarm("its wrapping was opened already, or has ended", err)
	}
	return &cred.Error{Kind: cred.Unavailable, Op: "vault.issue", Public: publicLost, Err: err}
}

func unwrapAlarm(what string, err error) error {
	return &cred.Error{
		Kind: cred.Unavailable, Op: "vault.issue", Reason: issuer.ReasonUnwrapFailed,
		Public: "the credential was not given out, because somebody between the broker and Vault may have seen it: " + what + "; tell your security team, who should look at Vault's audit log", Err: err,
	}
}
