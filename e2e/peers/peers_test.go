package peers_test

import (
	"testing"

	"github.com/daypass-io/daypass/e2e/peers"
)

// The two services work together: Vault makes a user in PostgreSQL, who can sign in until the lease
// is revoked.
func TestVaultMakesPostgresUsers(t *testing.T) {
	ctx := t.Context()
	pg, v := peers.Postgres(t), peers.Vault(t)
	v.Database(t, pg)
	v.DatabaseRole(t, "ro", "1h", "24h")
	secret, err := v.Client.Logical().ReadWithContext(ctx, "database/creds/ro")
	if err != nil {
		t.Fatal(err)
	}
	username, password := secret.Data["username"].(string), secret.Data["password"].(string)
	if err := pg.Login(ctx, username, password); err != nil {
		t.Errorf("the new user can't sign in: %v", err)
	}
	if roles, err := pg.Roles(ctx); err != nil || len(roles) != 1 || roles[0] != username {
		t.Errorf("roles %q, %v, want %q", roles, err, username)
	}
	if leases, err := v.Leases(ctx, "database/creds/ro"); err != nil || len(leases) != 1 || leases[0] != secret.LeaseID {
		t.Errorf("leases %q, %v, want %q", leases, err, secret.LeaseID)
	}
	v.Write(t, "sys/leases/revoke", peers.Data{"lease_id": secret.LeaseID, "sync": true})
	if err := pg.Login(ctx, username, password); err == nil {
		t.Error("a user whose lease was revoked can sign in")
	}
	if err := pg.Login(ctx, pg.User, "not the password"); err == nil {
		t.Error("PostgreSQL takes any password")
	}
}
