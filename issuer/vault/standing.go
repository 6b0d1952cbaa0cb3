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
		if !isStaticRole(data) { // reading which makes nothing
			err = madeForNobody(err)
		}
		return cred.Credential{}, cred.Lease{}, err
	}
	note := "Vault keeps no lease on it, so nothing ends it early"
	c.NotAfter = ownEnd(data, asked)
	switch {
	case isStaticRole(data):
		if seconds(data["ttl"]) < time.Second {
			return cred.Credential{}, cred.Lease{}, notIssued("vault.issue", "Vault is about to rotate this password; try again in a moment", errors.New("vault: the static role's ttl is over"))
		}
		note = "the password is a static role's: it is valid until Vault rotates it next, and nobody can end it earlier"
	case c.Type == cred.SSHCertificate:
		c.NotAfter = sshEnd(c)
		note = "the certificate is valid until its own end, and nobody can end it earlier"
	case src.engine == "pki":
		note = "the certificate is valid until its own end; set generate_lease on the PKI role to make it revocable"
	}
	if c.NotAfter.IsZero() {
		return c, cred.Lease{NotAfter: spec.NotAfter, Note: note}, nil
	}
	return c, standing(c.NotAfter, spec.NotAfter, note), nil
}

// ownEnd returns the end that an answer without a lease tells, whatever the engine, when it was asked for
// at an instant: the latest, as engines tell it in several ways. It is zero where none is told.
func ownEnd(data map[string]any, asked time.Time) (end time.Time) {
	for _, name := range []string{"expiration", "expires_at_seconds"} { // PKI, AWS' static roles; Google Cloud
		if at := instant(data[name]); at.After(end) {
			end = at
		}
	}
	for _, name := range []string{"ttl", "token_ttl"} { // static roles, identity tokens; Google Cloud
		if life := seconds(data[name]); life > 0 && asked.Add(life).After(end) {
			end = asked.Add(life)
		}
	}
	return end
}

// instant reads Unix seconds, or RFC 3339; zero where it is neither.
func instant(v any) time.Time {
	if unix := number(v); unix > 0 {
		return time.Unix(unix, 0)
	}
	text, _ := v.(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
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

// outlives tells, for people, why what Vault sent with a lease lives on when that has ended; empty where
// it does not. It looks at what was sent, as the engine may be unknown and the target may name another type.
func outlives(data map[string]any) string {
	switch {
	case has(data, "access_key") && (has(data, "session_token") || has(data, "security_token")): // Vault's AWS engine makes users of IAM without one
		return "AWS keeps STS credentials valid until their own end; nobody can end them earlier"
	case has(data, "service_account_token") && !madeAccount(data):
		return "the token is of a service account that Vault did not make for it, so Kubernetes keeps it valid until its own end"
	}
	return ""
}

func has(data map[string]any, name string) bool {
	_, ok := secretOf(data[name])
	return ok
}

// madeAccount reports whether Vault's Kubernetes engine made a service account for this lease alone,
// which it deletes at the lease's end, and the token with it. The engine does not say so; but unless
// its role has a name_template, the account's name begins with "v-" and the first eight characters of
// the display name of the token that asked, which is ours (childBody).
func madeAccount(data map[string]any) bool {
	name, _ := data["service_account_name"].(string)
	return strings.HasPrefix(name, "v-token-da-")
}

// tokenEnd returns the end that a service account's token, a JWT, tells of itself, at least the other.
func tokenEnd(data map[string]any, other time.Time) time.Time {
	token, _ := data["service_account_token"].(string)
	parts := strings.Split(token, ".")
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
