package cred

import (
	"slices"
	"time"
)

// CredentialType says which fields a Credential has, and so how it can be spent.
type CredentialType string

// The types of credential, each with its fields.
const (
	Bearer         CredentialType = "bearer"          // token
	UserPassword   CredentialType = "user_password"   // username, password
	AWS            CredentialType = "aws"             // access_key_id, secret_access_key, session_token
	TLS            CredentialType = "tls"             // certificate, private_key, ca_chain
	SSHCertificate CredentialType = "ssh_certificate" // signed_key, private_key
	KV             CredentialType = "kv"              // whatever the source holds
)

// Credential is what was minted: fields by name, all of them secret, and the instant it ends.
type Credential struct {
	Type     CredentialType
	Fields   map[string]Secret
	NotAfter time.Time // zero where the source sets no end
}

// Fingerprint identifies the whole credential: the SHA-256 of its fields' fingerprints in the order
// of their names; for a credential of one field, that field's own fingerprint.
func (c Credential) Fingerprint() Fingerprint {
	names := make([]string, 0, len(c.Fields))
	for name := range c.Fields {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 1 {
		return c.Fields[names[0]].Fingerprint()
	}
	var all []byte
	for _, name := range names {
		f := c.Fields[name].Fingerprint()
		all = append(append(append(all, name...), 0), f[:]...)
	}
	return NewSecret(all).Fingerprint()
}
