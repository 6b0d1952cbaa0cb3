package peers

import (
	"context"
	"crypto/rand"
	"maps"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// Data is the body of a request to Vault.
type Data = map[string]any

// Write writes to a path as root and returns the answer; it may be nil.
func (v *VaultServer) Write(t testing.TB, path string, data Data) *api.Secret {
	t.Helper()
	s, err := v.Client.Logical().WriteWithContext(t.Context(), path, data)
	if err != nil {
		t.Fatalf("vault write %s: %v", path, err)
	}
	return s
}

// Mount mounts a secrets engine at a path.
func (v *VaultServer) Mount(t testing.TB, path, engine string, options map[string]string) {
	t.Helper()
	if err := v.Client.Sys().MountWithContext(t.Context(), path, &api.MountInput{Type: engine, Options: options}); err != nil {
		t.Fatalf("vault secrets enable -path=%s %s: %v", path, engine, err)
	}
}

// Policy writes a policy in HCL.
func (v *VaultServer) Policy(t testing.TB, name, hcl string) {
	t.Helper()
	if err := v.Client.Sys().PutPolicyWithContext(t.Context(), name, hcl); err != nil {
		t.Fatalf("vault policy write %s: %v", name, err)
	}
}

// Database mounts the database engine at "database" and connects it to a PostgreSQL as "pg".
func (v *VaultServer) Database(t testing.TB, pg *PostgresServer) {
	t.Helper()
	v.Mount(t, "database", "database", nil)
	v.Write(t, "database/config/pg", Data{
		"plugin_name":    "postgresql-database-plugin",
		"connection_url": "postgresql://{{username}}:{{password}}@" + pg.Addr() + "/" + pg.Database + "?sslmode=disable",
		"username":       pg.User, "password": pg.Password, "allowed_roles": []string{"*"},
	})
}

// DatabaseRoot gives the connection "pg" a user of its own at the database, as which it makes the others
// and whose password may be rotated.
func (v *VaultServer) DatabaseRoot(t testing.TB, pg *PostgresServer, user string) {
	t.Helper()
	password := "first-" + rand.Text()
	if err := pg.Exec(t.Context(), "CREATE ROLE "+user+" LOGIN CREATEROLE PASSWORD '"+password+"'"); err != nil {
		t.Fatal(err)
	}
	v.Write(t, "database/config/pg", Data{
		"plugin_name":    "postgresql-database-plugin",
		"connection_url": "postgresql://{{username}}:{{password}}@" + pg.Addr() + "/" + pg.Database + "?sslmode=disable",
		"username":       user, "password": password, "allowed_roles": []string{"*"},
	})
}

// createRole is what Vault runs for a new user.
const createRole = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`

// DatabaseRole makes a role of the connection "pg": reading database/creds/NAME makes a user.
// The times are Vault's, e.g. "1h".
func (v *VaultServer) DatabaseRole(t testing.TB, name, defaultTTL, maxTTL string) {
	t.Helper()
	v.Write(t, "database/roles/"+name, Data{
		"db_name": "pg", "creation_statements": []string{createRole}, "default_ttl": defaultTTL, "max_ttl": maxTTL,
	})
}

// JWTAuth mounts JWT auth at a path. The configuration names where the keys are: jwks_url, or
// jwt_validation_pubkeys with PEM.
func (v *VaultServer) JWTAuth(t testing.TB, path string, config Data) {
	t.Helper()
	v.enableAuth(t, path, "jwt")
	v.Write(t, "auth/"+path+"/config", config)
}

// JWTRole makes a role of a JWT auth mount; more adds to, or replaces, what is set here: a periodic
// token of 1 h for any subject of one audience.
func (v *VaultServer) JWTRole(t testing.TB, path, role, audience string, policies []string, more Data) {
	t.Helper()
	data := Data{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{audience},
		"token_policies": policies, "token_period": "1h",
	}
	maps.Copy(data, more)
	v.Write(t, "auth/"+path+"/role/"+role, data)
}

// AppRole mounts AppRole auth at a path, where it is not yet, and makes a role with a periodic token
// of 1 h; more adds to or replaces that.
func (v *VaultServer) AppRole(t testing.TB, path, role string, policies []string, more Data) (roleID, secretID string) {
	t.Helper()
	v.enableAuth(t, path, "approle")
	data := Data{"token_policies": policies, "token_period": "1h"}
	maps.Copy(data, more)
	at := "auth/" + path + "/role/" + role
	v.Write(t, at, data)
	id, err := v.Client.Logical().ReadWithContext(t.Context(), at+"/role-id")
	if err != nil {
		t.Fatal(err)
	}
	secret := v.Write(t, at+"/secret-id", nil)
	return id.Data["role_id"].(string), secret.Data["secret_id"].(string)
}

func (v *VaultServer) enableAuth(t testing.TB, path, kind string) {
	t.Helper()
	err := v.Client.Sys().EnableAuthWithOptionsWithContext(t.Context(), path, &api.EnableAuthOptions{Type: kind})
	if err != nil && !strings.Contains(err.Error(), "path is already in use") {
		t.Fatalf("vault auth enable -path=%s %s: %v", path, kind, err)
	}
}

// Token makes a token with some policies; more adds to the request, e.g. "period" or "ttl".
func (v *VaultServer) Token(t testing.TB, policies []string, more Data) string {
	t.Helper()
	data := Data{"policies": policies}
	maps.Copy(data, more)
	return v.Write(t, "auth/token/create-orphan", data).Auth.ClientToken
}

// KV writes a secret into the version 2 key-value store that a development server has at "secret".
func (v *VaultServer) KV(t testing.TB, path string, values Data) {
	t.Helper()
	v.Write(t, "secret/data/"+path, Data{"data": values})
}

// Leases lists the leases under a path, e.g. "database/creds/ro".
func (v *VaultServer) Leases(ctx context.Context, path string) ([]string, error) {
	s, err := v.Client.Logical().ListWithContext(ctx, "sys/leases/lookup/"+path+"/")
	if err != nil || s == nil {
		return nil, err
	}
	var leases []string
	keys, _ := s.Data["keys"].([]any)
	for _, key := range keys {
		leases = append(leases, path+"/"+key.(string))
	}
	return leases, nil
}
