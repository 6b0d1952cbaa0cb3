package vault

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// Secret reads one field of a secret that stands in a key-value store, version 1 or 2, with the issuer's
// own token: a setting of the broker's that Vault keeps. The path may name the version of a version 2
// secret, as in "secret/apps/mail?version=3"; the "data/" of the API's paths may be left out. The policy
// needs read on the path, as for targets.
//
// It reads nothing but key-value stores, as reading anything else may mint: any other path, and one of
// which Vault does not tell what it is, is Invalid, as is a field that is not there. Other errors are
// Unavailable and wrap issuer.ErrNotIssued.
func (i *Issuer) Secret(ctx context.Context, path, field string) (cred.Secret, error) {
	from, err := sourceAt(path)
	if err != nil {
		return cred.Secret{}, err
	}
	src, err := i.source(ctx, issuer.Spec{Target: cred.Target{Credential: from}, NotAfter: time.Unix(math.MaxInt32, 0)})
	if err != nil {
		return cred.Secret{}, err
	}
	if !src.kv() {
		return cred.Secret{}, secretRefused("SOURCE_REFUSED", fmt.Sprintf("the path %q in Vault is not of a key-value store, or the broker may not ask what it is", from.Path))
	}
	answer, err := i.asBroker(ctx, src.req)
	if err != nil {
		return cred.Secret{}, kvFailed(err)
	}
	values := answerData(answer)
	if src.engine == "kv2" {
		if values, err = kv2Values(src, values); err != nil {
			return cred.Secret{}, err
		}
	}
	secret, ok := secretOf(values[field])
	if !ok {
		return cred.Secret{}, secretRefused("FIELD_MISSING", fmt.Sprintf("the secret at %q in Vault has no field %q, or it is empty", from.Path, field))
	}
	return secret, nil
}

// sourceAt takes the version off a path.
func sourceAt(path string) (cred.CredentialSource, error) {
	path, query, asked := strings.Cut(path, "?")
	from := cred.CredentialSource{Path: path}
	if !asked {
		return from, nil
	}
	params, err := url.ParseQuery(query)
	version := params.Get(paramVersion)
	if err != nil || len(params) != 1 || len(params[paramVersion]) != 1 || version == "" {
		return from, secretRefused("BAD_REFERENCE", "a path in Vault may be followed by ?version=N and by nothing else")
	}
	from.Params = map[string]string{paramVersion: version}
	return from, nil
}

func secretRefused(reason, public string) error {
	return &cred.Error{Kind: cred.Invalid, Op: "vault.secret", Reason: reason, Public: public}
}
