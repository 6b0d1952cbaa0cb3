package vault

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// joined adds to a lease's note how Vault's audit log names the secret. Vault's log holds a keyed hash
// of each secret in place of it, and tells the hash of a value that one has
// (https://developer.hashicorp.com/vault/api-docs/system/audit-hash); with our fingerprint of the same
// value beside it, both logs tell of one credential. A failure takes nothing from the lease.
func (i *Issuer) joined(ctx context.Context, c cred.Credential, l cred.Lease) cred.Lease {
	field := secretField(c)
	if i.cfg.AuditDevice == "" || field == "" {
		return l
	}
	s, err := i.broker.current(ctx)
	if err != nil {
		return l
	}
	answer, err := i.client.do(ctx, request{
		method: "POST", path: "sys/audit-hash/" + i.cfg.AuditDevice, token: s.token,
		body: map[string]any{"input": c.Fields[field].RevealString()},
	})
	hash, _ := answerData(answer)["hash"].(string)
	if err != nil || !strings.HasPrefix(hash, "hmac-") || len(hash) > 200 {
		return l
	}
	if l.Note != "" {
		l.Note += "; "
	}
	l.Note += "in Vault's audit log (" + i.cfg.AuditDevice + ") its " + field + " is " + hash
	return l
}

// secretField names the field of a credential to find in Vault's log: the one that is secret, or of a
// certificate the certificate, or the first.
func secretField(c cred.Credential) string {
	for _, name := range []string{"password", "token", "secret_access_key", "private_key", "signed_key", "certificate"} {
		if !c.Fields[name].IsZero() {
			return name
		}
	}
	if names := slices.Sorted(maps.Keys(c.Fields)); len(names) > 0 {
		return names[0]
	}
	return ""
}

func checkDevice(device string) error {
	if device != "" && checkPath(device) != nil {
		return invalidConfig("the audit device must be named by its path in Vault, such as file", errors.New("vault: bad audit device"))
	}
	return nil
}
