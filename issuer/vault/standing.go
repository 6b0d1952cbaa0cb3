package vault

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"golang.org/x/crypto/ssh"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// withoutLease returns what Vault gave out, when it was asked at an instant, without keeping a lease
// on it: it has an end of its own or none, and nobody can end it early.
func withoutLease(spec issuer.Spec, src source, answer *api.Secret, asked time.Time) (cred.Credential, cred.Lease, error) {
	data := answerData(answer)
	c, err := src.credential(data)
	if err != nil {
		return cred.Credential{}, cred.Lease{}, err
	}
	note := "Vault keeps no lease on it, so nothing ends it early"
	switch unix := number(data["expiration"]); {
	case src.engine == "pki" && unix > 0:
		c.NotAfter = time.Unix(unix, 0)
		note = "the certificate is valid until its own end; set generate_lease on the PKI role to make it revocable"
	case isStaticRole(data):
		if c.NotAfter = asked.Add(seconds(data["ttl"])); seconds(data["ttl"]) < time.Second {
			return cred.Credential{}, cred.Lease{}, notIssued("vault.issue", "Vault is about to rotate this password; try again in a moment", errors.New("vault: the static role's ttl is over"))
		}
		note = "the password is a static role's: it is valid until Vault rotates it next, and nobody can end it earlier"
	case c.Type == cred.SSHCertificate:
		c.NotAfter = sshEnd(c)
		note = "the certificate is valid until its own end, and nobody can end it earlier"
	}
	if c.NotAfter.IsZero() {
		return c, cred.Lease{NotAfter: spec.NotAfter, Note: note}, nil
	}
	return c, standing(c.NotAfter, spec.NotAfter, note), nil
}

// isStaticRole reports whether an answer is of database/static-creds: it tells how the password is
// rotated.
func isStaticRole(data map[string]any) bool {
	return data["ttl"] != nil && (data["rotation_period"] != nil || data["rotation_schedule"] != nil)
}

// sshEnd returns when an SSH certificate ends (OpenSSH, PROTOCOL.certkeys, valid before); zero for
// never, or for what is no certificate.
func sshEnd(c cred.Credential) time.Time {
	key, _, _, _, err := ssh.ParseAuthorizedKey(c.Fields["signed_key"].Reveal())
	certificate, ok := key.(*ssh.Certificate)
	if err != nil || !ok || certificate.ValidBefore > math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(int64(certificate.ValidBefore), 0)
}

// madeAccount reports whether Vault's Kubernetes engine made a service account for this lease alone,
// which it deletes at the lease's end, and the token with it. The engine does not say so; but unless
// its role has a name_template, the account's name begins with "v-" and the first eight characters of
// the display name of the token that asked, which is ours (childBody).
func madeAccount(data map[string]any) bool {
	name, _ := data["service_account_name"].(string)
	return strings.HasPrefix(name, "v-token-da-")
}

// tokenEnd returns the end that a JWT tells of itself, at least the other.
func tokenEnd(c cred.Credential, other time.Time) time.Time {
	parts := strings.Split(c.Fields["token"].RevealString(), ".")
	if len(parts) != 3 {
		return other
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Exp int64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return other
	}
	if end := time.Unix(claims.Exp, 0); end.After(other) {
		return end
	}
	return other
}

// standing is a lease on something that can't be revoked.
func standing(end, asked time.Time, note string) cred.Lease {
	if end.After(asked) {
		note += ", which is later than was asked"
	}
	return cred.Lease{NotAfter: end, Note: note}
}
