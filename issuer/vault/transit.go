package vault

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// TransitSigner signs with a key that never leaves Vault's transit engine, such as a GitHub App's. It
// is safe for concurrent use and ends with its issuer.
type TransitSigner struct {
	issuer *Issuer
	path   string
}

// TransitSigner returns a signer for an RSA key of a transit engine; an empty mount is "transit". It is
// made once for each who signs, before Check looks at the rights. The issuer's Vault policy needs
//
//	path "transit/sign/KEY/sha2-256" { capabilities = ["update"] }
//
// and nothing else on that engine. The error is Invalid, for a name that is none.
func (i *Issuer) TransitSigner(mount, key string) (*TransitSigner, error) {
	if err := CheckTransit(mount, key); err != nil {
		return nil, err
	}
	path := signPath(mount, key)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.signing = append(i.signing, path) // for Check to look at
	return &TransitSigner{issuer: i, path: path}, nil
}

// CheckTransit tells whether TransitSigner takes these names.
func CheckTransit(mount, key string) error {
	if err := checkPath(signPath(mount, key)); err != nil || strings.Contains(key, "/") {
		return invalidConfig("the key in Vault's transit engine must be named like github-app, and the engine's mount like transit", errors.New("vault: bad transit mount or key"))
	}
	return nil
}

func signPath(mount, key string) string {
	return orDefault(mount, "transit") + "/sign/" + key + "/sha2-256"
}

// SignRS256 returns the RSASSA-PKCS1-v1_5 signature over the SHA-256 of an input (RFC 7518, section
// 3.3), made with the newest version of the key. It signs only: nothing is issued, so every error is
// either Invalid (no such key, or not an RSA key) or Unavailable and wraps issuer.ErrNotIssued.
//
// Vault's default is another padding (PSS), so pkcs1v15 is asked for
// (https://developer.hashicorp.com/vault/api-docs/secret/transit#sign-data).
func (s *TransitSigner) SignRS256(ctx context.Context, signingInput []byte) ([]byte, error) {
	answer, err := s.issuer.asBroker(ctx, request{method: "POST", path: s.path, body: map[string]any{
		"input": base64.StdEncoding.EncodeToString(signingInput), "prehashed": false,
		"signature_algorithm": "pkcs1v15", "marshaling_algorithm": "asn1",
	}})
	switch code := statusOf(err); {
	case code == http.StatusBadRequest || code == http.StatusNotFound:
		return nil, transitRefused(err)
	case err != nil:
		return nil, harmless("vault.sign", err)
	}
	signature, err := rawSignature(answerData(answer)["signature"])
	if err != nil {
		return nil, transitRefused(err)
	}
	return signature, nil
}

func transitRefused(err error) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "vault.sign", Reason: "SOURCE_REFUSED",
		Public: "Vault can't sign with the key that is configured; it must be an RSA key of a transit engine", Err: err,
	}
}

// rawSignature takes off Vault's "vault:vN:", N being the version of the key.
func rawSignature(v any) ([]byte, error) {
	text, _ := v.(string)
	parts := strings.Split(text, ":")
	if len(parts) != 3 || parts[0] != "vault" || !strings.HasPrefix(parts[1], "v") {
		return nil, errors.New("vault: the signature is not of the form vault:vN:BASE64")
	}
	signature, err := base64.StdEncoding.DecodeString(parts[2])
	if err == nil && len(signature) < 256 { // 2048 bits; what other sorts of keys sign is shorter
		err = errors.New("vault: the signature is not one of an RSA key")
	}
	return signature, err
}
