package vault

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// ReadKV returns the current version of a secret in a key-value store of version 2, whose path may be
// written with or without the API's "data/", and that version's number. Values that are no strings come
// as JSON, and empty ones not at all. The error is NotFound where there is no current version, Invalid
// for what is no such store, Denied without the right to read, else Unavailable.
//
// For this and the two others the issuer's Vault policy needs
//
//	path "MOUNT/data/PATH"    { capabilities = ["read", "update"] }
//	path "MOUNT/destroy/PATH" { capabilities = ["update"] }
func (i *Issuer) ReadKV(ctx context.Context, path string) (data map[string]cred.Secret, version int, err error) {
	at, err := i.kvPath(ctx, path, "data")
	if err != nil {
		return nil, 0, err
	}
	raw, version, err := i.kvCurrent(ctx, at)
	if err != nil {
		return nil, 0, err
	}
	data = map[string]cred.Secret{}
	for name, value := range raw {
		if v, ok := secretOf(value); ok {
			data[name] = v
		}
	}
	return data, version, nil
}

// WriteKV writes the next version of a secret and returns its number, provided that the current version
// is cas; zero means that there is none. What is as it was keeps its JSON type, everything else becomes
// a string. If the next version holds exactly these values already, as after a write whose answer was
// lost, that is success: so a call may be repeated.
//
// The error is Conflict where somebody else has written, Unavailable where the write may have been done;
// with every other kind it was not.
func (i *Issuer) WriteKV(ctx context.Context, path string, data map[string]cred.Secret, cas int) (int, error) {
	at, err := i.kvPath(ctx, path, "data")
	if err != nil {
		return 0, err
	}
	raw, version, err := i.kvCurrent(ctx, at)
	if err != nil && cred.KindOf(err) != cred.NotFound {
		return 0, err
	}
	if version != cas {
		return kvLanded(raw, version, data, cas)
	}
	answer, err := i.once(ctx, request{method: "POST", path: at, body: map[string]any{"options": map[string]any{"cas": cas}, "data": kvBody(raw, data)}})
	if err == nil {
		return int(number(answerData(answer)["version"])), nil
	}
	failed := changing("vault.kv", "to write the secret", err)
	if cred.KindOf(failed) != cred.Unavailable && statusOf(err) != http.StatusBadRequest {
		return 0, failed
	}
	raw, version, err = i.kvCurrent(ctx, at)
	switch {
	case err != nil && cred.KindOf(err) != cred.NotFound, version == cas:
		return 0, failed
	}
	return kvLanded(raw, version, data, cas)
}

// DestroyKV removes versions of a secret for good. Versions that are not there are no error.
func (i *Issuer) DestroyKV(ctx context.Context, path string, versions []int) error {
	at, err := i.kvPath(ctx, path, "destroy")
	if err != nil || len(versions) == 0 {
		return err
	}
	_, err = i.asBroker(ctx, request{method: "POST", path: at, body: map[string]any{"versions": versions}})
	return asking("vault.kv", "to destroy old versions of the secret", err)
}

// kvPath returns a secret's path below one of the API's parts of a store: "data" or "destroy".
func (i *Issuer) kvPath(ctx context.Context, path, part string) (string, error) {
	if err := checkPath(path); err != nil {
		return "", err
	}
	m, err := i.mount(ctx, path)
	if err != nil {
		return "", err
	}
	if m.engine != "kv2" && m.engine != "" {
		return "", &cred.Error{Kind: cred.Invalid, Op: "vault.kv", Reason: "SOURCE_REFUSED", Public: "this path in Vault is not one of a key-value store of version 2", Err: errors.New("vault: engine " + m.engine)}
	}
	if m.path == "" {
		m.path, _, _ = strings.Cut(path, "/")
		m.path += "/"
	}
	rest := strings.TrimPrefix(kv2Path(m.path, path), m.path+"data/")
	return m.path + part + "/" + rest, nil
}

// kvCurrent reads the current version. Vault answers 404 for one that is deleted.
func (i *Issuer) kvCurrent(ctx context.Context, at string) (raw map[string]any, version int, err error) {
	answer, err := i.asBroker(ctx, request{method: "GET", path: at})
	if err != nil {
		return nil, 0, asking("vault.kv", "to read the secret", err)
	}
	raw, _ = answerData(answer)["data"].(map[string]any)
	return raw, int(number(inside(answerData(answer), "metadata.version"))), nil
}

// kvLanded tells whether a version that is not the expected one is the one that was to be written.
func kvLanded(raw map[string]any, version int, data map[string]cred.Secret, cas int) (int, error) {
	if version == cas+1 && kvSame(raw, data) {
		return version, nil
	}
	return 0, &cred.Error{Kind: cred.Conflict, Op: "vault.kv", Reason: "SECRET_CHANGED", Public: "somebody else has changed the secret in Vault meanwhile; look who writes there"}
}

// kvBody makes what is written: values that are as they were keep their type, and empty ones, which
// ReadKV does not return, stay.
func kvBody(raw map[string]any, data map[string]cred.Secret) map[string]any {
	body := map[string]any{}
	for name, value := range raw {
		if _, shown := secretOf(value); !shown {
			body[name] = value
		}
	}
	for name, next := range data {
		body[name] = next.RevealString()
		if was, ok := secretOf(raw[name]); ok && was.Fingerprint() == next.Fingerprint() {
			body[name] = raw[name]
		}
	}
	return body
}

func kvSame(raw map[string]any, data map[string]cred.Secret) bool {
	shown := 0
	for name, value := range raw {
		v, ok := secretOf(value)
		if !ok {
			continue
		}
		shown++
		if next, there := data[name]; !there || next.Fingerprint() != v.Fingerprint() {
			return false
		}
	}
	return shown == len(data)
}
