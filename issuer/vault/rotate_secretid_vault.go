package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// metaRotation is the key of a secret ID's metadata that holds the ID of the rotation that made it.
const metaRotation = "daypass_rotation"

// secretIDWrap is how long a new secret ID waits to be unwrapped.
const secretIDWrap = time.Minute

// secretIDInfo is what Vault says of a secret ID.
type secretIDInfo struct {
	accessor string
	rotation string // that made it; empty for none of ours
	uses     int64  // how often it can be used; zero: without limit
	expires  string // RFC 3339; the year 1 for never
}

// make makes a secret ID, wrapped on its way to us.
func (x *secretIDs) make(ctx context.Context, rotation string) (cred.Secret, string, error) {
	meta, err := json.Marshal(map[string]string{metaRotation: rotation})
	if err != nil {
		return cred.Secret{}, "", err
	}
	src := source{req: request{method: "POST", path: x.at + "/secret-id", body: map[string]any{"metadata": string(meta)}, wrap: secretIDWrap}}
	answer, err := x.vault.once(ctx, src.req)
	if err != nil {
		return cred.Secret{}, "", changing("vault.rotate", "to make a secret ID", err)
	}
	if answer, err = x.vault.unwrapped(ctx, src, answer); err != nil {
		return cred.Secret{}, "", err
	}
	data := answerData(answer)
	secret, _ := data["secret_id"].(string)
	accessor, _ := data["secret_id_accessor"].(string)
	switch {
	case secret == "" || accessor == "":
		return cred.Secret{}, "", &cred.Error{Kind: cred.Unavailable, Op: "vault.rotate", Public: "Vault gave the broker no secret ID; the broker looks and tries again", Err: errors.New("vault: no secret_id or accessor in the answer")}
	case number(data["secret_id_num_uses"]) != 0:
		err := &cred.Error{Kind: cred.Invalid, Op: "vault.rotate", Reason: "USES_LIMITED", Public: "the AppRole limits how often a secret ID may be used: set secret_id_num_uses=0"}
		return cred.Secret{}, "", errors.Join(x.destroy(ctx, accessor), err)
	}
	return cred.SecretString(secret), accessor, nil
}

// lookup asks what Vault knows of a secret ID. It is Invalid for one that the role does not have.
func (x *secretIDs) lookup(ctx context.Context, secret cred.Secret) (secretIDInfo, error) {
	answer, err := x.vault.asBroker(ctx, request{method: "POST", path: x.at + "/secret-id/lookup", body: map[string]any{"secret_id": secret.RevealString()}})
	if err != nil {
		return secretIDInfo{}, asking("vault.rotate", "to look up the secret ID", err)
	}
	about := readSecretID(answerData(answer))
	if about.accessor == "" {
		return about, &cred.Error{Kind: cred.Invalid, Op: "vault.rotate", Reason: "SECRET_ID_UNKNOWN", Public: "the secret ID in the file is not one of this AppRole, or has ended"}
	}
	return about, nil
}

func readSecretID(data map[string]any) secretIDInfo {
	about := secretIDInfo{uses: number(data["secret_id_num_uses"])}
	about.accessor, _ = data["secret_id_accessor"].(string)
	about.expires, _ = data["expiration_time"].(string)
	about.rotation, _ = inside(data["metadata"], metaRotation).(string)
	return about
}

// list returns the accessors of all secret IDs of the role.
func (x *secretIDs) list(ctx context.Context) ([]string, error) {
	accessors, err := x.vault.listKeys(ctx, x.at+"/secret-id")
	return accessors, asking("vault.rotate", "to list the AppRole's secret IDs", err)
}

// endMade destroys what a rotation has made, but for one accessor, and makes sure that it is gone.
func (x *secretIDs) endMade(ctx context.Context, rotation, except string) error {
	listed, err := x.list(ctx)
	if err != nil {
		return err
	}
	for _, accessor := range listed {
		answer, err := x.vault.asBroker(ctx, request{method: "POST", path: x.at + "/secret-id-accessor/lookup", body: map[string]any{"secret_id_accessor": accessor}})
		if statusOf(err) == http.StatusNotFound {
			continue // it has ended since
		}
		if err != nil {
			return asking("vault.rotate", "to look up a secret ID", err)
		}
		if accessor == except || readSecretID(answerData(answer)).rotation != rotation {
			continue
		}
		if err := x.destroy(ctx, accessor); err != nil {
			return err
		}
	}
	return nil
}

// destroy ends a secret ID and makes sure that it is listed no more. Vault's answer for one that is
// gone is a failure like any other (500), so the list decides.
func (x *secretIDs) destroy(ctx context.Context, accessor string) error {
	_, err := x.vault.asBroker(ctx, request{method: "POST", path: x.at + "/secret-id-accessor/destroy", body: map[string]any{"secret_id_accessor": accessor}})
	listed, listErr := x.list(ctx)
	switch {
	case listErr != nil:
		return listErr
	case !slices.Contains(listed, accessor):
		return nil
	case err != nil:
		return changing("vault.rotate", "to destroy a secret ID", err)
	}
	return &cred.Error{Kind: cred.Unavailable, Op: "vault.rotate", Public: "Vault still lists a secret ID that it was told to destroy; the broker looks again", Err: errors.New("vault: the destroyed secret ID is listed")}
}

// signIn signs in with a secret ID as the issuer would, mints if there is something to mint, and ends
// the token. The issuer's own token is left as it is: leases hang on it.
func (x *secretIDs) signIn(ctx context.Context, secret cred.Secret, v VerifyConfig, rotation string) error {
	cfg, role := x.vault.cfg, *x.vault.cfg.AppRole
	role.SecretID, role.SecretIDFile = secret, ""
	cfg.AppRole = &role
	fresh, err := New(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = fresh.Close() }()
	fresh.calm = x.vault.calm // what it mints must not meet the rotation of that engine's root
	s, err := fresh.broker.current(ctx)
	if err != nil {
		return signInRefused(err)
	}
	err = fresh.trial(ctx, v, rotation)
	_, _ = fresh.client.do(ctx, request{method: "POST", path: "auth/token/revoke-self", token: s.token}) // else it ends by itself
	return err
}

// signInRefused tells a secret ID that Vault does not take from a Vault that does not answer.
func signInRefused(err error) error {
	if s := statusOf(err); s == http.StatusBadRequest || s == http.StatusForbidden {
		return &cred.Error{Kind: cred.Invalid, Op: "vault.rotate", Reason: "SIGN_IN_REFUSED", Public: "Vault refuses a sign-in with the secret ID; look at the AppRole, and from which addresses it may be used", Err: err}
	}
	return err
}

// Check looks at the file, the broker's rights, the role and the secret ID in use, and signs in with it.
// The Vault policy needs, for the role's own paths:
//
//	path "auth/approle/role/NAME/role-id"                    { capabilities = ["read"] }
//	path "auth/approle/role/NAME/secret-id"                  { capabilities = ["update", "list"] }
//	path "auth/approle/role/NAME/secret-id/lookup"           { capabilities = ["update"] }
//	path "auth/approle/role/NAME/secret-id-accessor/lookup"  { capabilities = ["update"] }
//	path "auth/approle/role/NAME/secret-id-accessor/destroy" { capabilities = ["update"] }
//	path "auth/token/revoke-self"                            { capabilities = ["update"] }   # or Vault's default policy
func (x *secretIDs) Check(ctx context.Context, r issuer.Rotation) ([]cred.Finding, error) {
	var found findings
	current, err := x.inFile()
	if err == nil {
		err = writable(filepath.Dir(x.cfg.File))
	}
	if err := found.tell("file", "the file of the secret ID can be replaced", err); err != nil {
		return nil, err
	}
	for _, look := range []func(context.Context, *findings) error{x.lookAtRights, x.lookAtRole} {
		if err := look(ctx, &found); err != nil {
			return nil, err
		}
	}
	if !found.good() {
		return found, nil
	}
	if err := x.lookAtSecretID(ctx, current, &found); err != nil {
		return nil, err
	}
	err = x.signIn(ctx, current, x.cfg.Verify, r.ID)
	return found, found.tell("fresh sign-in", "a sign-in with the secret ID in the file works", err)
}

func writable(dir string) error {
	const writeAndSearch = 2 | 1 // access(2): W_OK and X_OK
	if err := syscall.Access(dir, writeAndSearch); err != nil {
		return &cred.Error{Kind: cred.Invalid, Op: "vault.rotate", Reason: "KEY_FILE", Public: "the broker may not write to the directory of the file with the secret ID, where the new file has to be made", Err: err}
	}
	return nil
}

func (x *secretIDs) lookAtRights(ctx context.Context, found *findings) error {
	return x.vault.tellRights(ctx, []right{
		{path: x.at + "/role-id", all: []string{"read"}, without: "nobody knows whose secret ID it is"},
		{path: x.at + "/secret-id", either: []string{"update", "create"}, all: []string{"list"}, without: "no secret ID is made, nor seen to be gone"},
		{path: x.at + "/secret-id/lookup", either: []string{"update"}, without: "the secret ID in use is not known by its accessor"},
		{path: x.at + "/secret-id-accessor/lookup", either: []string{"update"}, without: "what a crash left is not found"},
		{path: x.at + "/secret-id-accessor/destroy", either: []string{"update"}, without: "the old secret ID is not ended"},
		{path: "auth/token/revoke-self", either: []string{"update"}, without: "the token that tries the new secret ID lives for its period"},
	}, found)
}

// lookAtRole makes sure that the named role is the one that the issuer signs in as.
func (x *secretIDs) lookAtRole(ctx context.Context, found *findings) error {
	answer, err := x.vault.asBroker(ctx, request{method: "GET", path: x.at + "/role-id"})
	if err = asking("vault.rotate", "to read the AppRole's ID", err); err != nil {
		return found.tell("role", "", err)
	}
	id, _ := answerData(answer)["role_id"].(string)
	if id != x.vault.cfg.AppRole.RoleID {
		found.add("role", false, "the AppRole %s is not the one that the broker signs in as: its role ID is another", x.cfg.RoleName)
		return nil
	}
	found.add("role", true, "the broker signs in as the AppRole %s", x.cfg.RoleName)
	return nil
}

func (x *secretIDs) lookAtSecretID(ctx context.Context, current cred.Secret, found *findings) error {
	about, err := x.lookup(ctx, current)
	if err != nil {
		return found.tell("secret ID", "", err)
	}
	if about.uses != 0 {
		found.add("secret ID", false, "the AppRole limits how often a secret ID may be used: set secret_id_num_uses=0")
	} else {
		text := "the secret ID in use is " + shortPrint(about.accessor)
		if end, err := time.Parse(time.RFC3339Nano, about.expires); err == nil && end.Year() > 1 {
			text += " and ends at " + end.UTC().Format(time.RFC3339)
		}
		found.add("secret ID", true, "%s", text)
	}
	listed, err := x.list(ctx)
	if err != nil {
		return found.tell("others", "", err)
	}
	found.add("others", true, "%s", fmt.Sprintf("the AppRole has %d other secret IDs, which are left alone; whoever reads the same file signs in with the new one", len(listed)-1))
	return nil
}
