package vault

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/daypass-io/daypass/cred"
)

// tokenInfo is what Vault says of a token (auth/token/lookup-self).
type tokenInfo struct {
	kind           string // "service" or "batch"
	ttl            time.Duration
	period         time.Duration // zero: not periodic
	explicitMaxTTL time.Duration // zero: none
	numUses        int64         // zero: unlimited
	renewable      bool
	root           bool
}

// lookupSelf asks Vault what a token is.
func (c *client) lookupSelf(ctx context.Context, token cred.Secret) (tokenInfo, error) {
	answer, err := c.doRetrying(ctx, request{method: "GET", path: "auth/token/lookup-self", token: token})
	if err != nil {
		return tokenInfo{}, err
	}
	return readTokenInfo(answer)
}

func readTokenInfo(answer *api.Secret) (tokenInfo, error) {
	if answer == nil || answer.Data == nil {
		return tokenInfo{}, &callError{op: "GET auth/token/lookup-self", err: errors.New("the answer is empty")}
	}
	d := answer.Data
	info := tokenInfo{
		ttl: seconds(d["ttl"]), period: seconds(d["period"]), explicitMaxTTL: seconds(d["explicit_max_ttl"]),
		numUses: number(d["num_uses"]),
	}
	info.kind, _ = d["type"].(string)
	info.renewable, _ = d["renewable"].(bool)
	policies, _ := d["policies"].([]any)
	info.root = slices.Contains(policies, any("root"))
	return info, nil
}

func seconds(v any) time.Duration { return time.Duration(number(v)) * time.Second }

// number reads a JSON number without its fraction (Vault writes some times as floats), zero where it
// is none.
func number(v any) int64 {
	n, _ := v.(json.Number)
	f, _ := n.Float64()
	return int64(f)
}
