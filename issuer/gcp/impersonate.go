package gcp

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// wireGenerate is what the service account's token is asked for with:
// https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
type wireGenerate struct {
	Scope     []string `json:"scope"`
	Lifetime  string   `json:"lifetime"` // seconds, "3600s"
	Delegates []string `json:"delegates,omitempty"`
}

// wireGenerated is the answer.
type wireGenerated struct {
	AccessToken string    `json:"accessToken"`
	ExpireTime  time.Time `json:"expireTime"`
}

// impersonate spends the federated token on one of a service account.
func (i *Issuer) impersonate(ctx context.Context, p plan, federated held) (held, error) {
	r := tokenapi.NewRequest("impersonate")
	r.SetBearer(federated.token)
	body := wireGenerate{Scope: p.scopes}
	for _, name := range p.delegates {
		body.Delegates = append(body.Delegates, "projects/-/serviceAccounts/"+name)
	}
	r.Body = func() any { // Google counts from when it makes the token
		body.Lifetime = fmt.Sprintf("%ds", int(p.life().Seconds()))
		return body
	}
	last := p.boundary == nil
	a, err := i.http.PostPatiently(ctx, i.cfg.IAMURL+"/v1/projects/-/serviceAccounts/"+url.PathEscape(p.account)+":generateAccessToken", r, again(last))
	if err != nil {
		return held{}, failed(err, last, impersonation)
	}
	h, err := readGenerated(r, a)
	if err != nil {
		return held{}, failed(err, last, impersonation)
	}
	return h, nil
}

func readGenerated(r *tokenapi.Request, a tokenapi.Answer) (held, error) {
	var w wireGenerated
	if err := json.Unmarshal(a.Body, &w); err != nil || !tokenapi.Printable(w.AccessToken) {
		// The cause is not kept: it may quote the answer.
		return held{}, r.Odd(a, "the answer holds no access token, or no instant at which it ends")
	}
	// expireTime is an instant of Google's clock, so that a clock of ours that is wrong does not matter.
	end := a.Asked.Add(min(w.ExpireTime.Sub(a.Clock()), 24*time.Hour))
	if !end.After(a.Asked) {
		return held{}, r.Odd(a, "the token of the answer has ended")
	}
	return held{token: cred.SecretString(w.AccessToken), until: end, end: end}, nil
}
