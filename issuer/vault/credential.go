package vault

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// field is one field of a type of credential and where Vault's engines keep it: the first of the
// names that is there.
type field struct {
	name     string
	from     []string
	optional bool
}

// fieldsOf says which fields a type has. A type that is not named takes every field that Vault sends.
var fieldsOf = map[cred.CredentialType][]field{
	cred.UserPassword: {{name: "username", from: []string{"username"}}, {name: "password", from: []string{"password"}}},
	cred.Bearer:       {{name: "token", from: []string{"token", "access_token", "service_account_token"}}},
	cred.AWS: {
		{name: "access_key_id", from: []string{"access_key"}},
		{name: "secret_access_key", from: []string{"secret_key"}},
		{name: "session_token", from: []string{"session_token", "security_token"}, optional: true},
	},
	cred.TLS: {
		{name: "certificate", from: []string{"certificate"}},
		{name: "private_key", from: []string{"private_key"}},
		{name: "ca_chain", from: []string{"ca_chain", "issuing_ca"}, optional: true},
	},
	cred.SSHCertificate: {
		{name: "signed_key", from: []string{"signed_key"}},
		{name: "private_key", from: []string{"private_key"}, optional: true},
	},
}

// guesses is the order in which an answer is tried for its type.
var guesses = []cred.CredentialType{cred.UserPassword, cred.AWS, cred.TLS, cred.SSHCertificate, cred.Bearer}

// credential makes a credential from an answer's data. Without a type it takes the first whose
// fields are all there, else KV. The target's own names for fields win. What was signed has no private
// key: the caller holds it.
func (s source) credential(data map[string]any) (cred.Credential, error) {
	from, as := s.want, s.want.Type
	switch {
	case as == "" && s.kv():
		as = cred.KV
	case as == "" && s.own != nil:
		as = s.own.signedAs
	}
	for _, guess := range guesses {
		if as == "" && hasFields(guess, from.Fields, data) {
			as = guess
		}
	}
	as = orType(as, cred.KV)
	out := cred.Credential{Type: as, Fields: map[string]cred.Secret{}}
	named, known := fieldsOf[as]
	if !known {
		takeAll(out, from.Fields, data)
	}
	for _, f := range named {
		if v, ok := f.find(from.Fields, data); ok {
			out.Fields[f.name] = v
		} else if !f.optional && !(s.own != nil && f.name == "private_key") {
			return cred.Credential{}, missingField(as, f.name)
		}
	}
	for ours, theirs := range from.Fields {
		v, ok := secretOf(data[theirs])
		if !ok {
			return cred.Credential{}, missingField(as, ours)
		}
		out.Fields[ours] = v
	}
	if len(out.Fields) == 0 {
		return cred.Credential{}, missingField(as, "any field")
	}
	return out, nil
}

func missingField(as cred.CredentialType, name string) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "vault.issue", Reason: "FIELD_MISSING",
		Public: fmt.Sprintf("what Vault sent has no %s, which a credential of type %s needs; the target's type or fields are wrong", name, as),
	}
}

// takeAll takes every field that Vault sent, but for those that the target renames.
func takeAll(out cred.Credential, renames map[string]string, data map[string]any) {
	renamed := map[string]bool{}
	for _, theirs := range renames {
		renamed[theirs] = true
	}
	for name, value := range data {
		if v, ok := secretOf(value); ok && !renamed[name] {
			out.Fields[name] = v
		}
	}
}

func hasFields(as cred.CredentialType, renames map[string]string, data map[string]any) bool {
	for _, f := range fieldsOf[as] {
		if _, ok := f.find(renames, data); !ok && !f.optional {
			return false
		}
	}
	return true
}

func (f field) find(renames map[string]string, data map[string]any) (cred.Secret, bool) {
	names := f.from
	if theirs, ok := renames[f.name]; ok {
		names = []string{theirs}
	}
	for _, name := range names {
		if v, ok := secretOf(data[name]); ok {
			return v, true
		}
	}
	return cred.Secret{}, false
}

// secretOf turns a value of JSON into a secret: strings as they are, a list of strings line by line
// (a chain of certificates), anything else as JSON. Null and the empty string are nothing.
func secretOf(v any) (cred.Secret, bool) {
	switch v := v.(type) {
	case nil:
		return cred.Secret{}, false
	case string:
		return cred.SecretString(v), v != ""
	case []any:
		if lines, ok := allStrings(v); ok {
			return cred.SecretString(strings.Join(lines, "\n")), len(lines) > 0
		}
	}
	b, err := json.Marshal(v)
	return cred.NewSecret(b), err == nil
}

func allStrings(list []any) ([]string, bool) {
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}
