package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/daypass-io/daypass/e2e/peers"
)

// secretIDPolicy is what rotating the broker's own secret ID needs beside vaultPolicy.
const secretIDPolicy = vaultPolicy + `
path "auth/approle/role/daypass/role-id" { capabilities = ["read"] }
path "auth/approle/role/daypass/secret-id" { capabilities = ["update", "list"] }
path "auth/approle/role/daypass/secret-id/lookup" { capabilities = ["update"] }
path "auth/approle/role/daypass/secret-id-accessor/lookup" { capabilities = ["update"] }
path "auth/approle/role/daypass/secret-id-accessor/destroy" { capabilities = ["update"] }
`

// secretIDCluster is a vaultCluster whose broker signs in to Vault with a secret ID that it rotates.
type secretIDCluster struct {
	*vaultCluster
	roleID string
}

func newSecretIDCluster(t *testing.T) *secretIDCluster {
	t.Helper()
	c := &secretIDCluster{vaultCluster: newVaultCluster(t)}
	c.vault.Policy(t, "daypass", secretIDPolicy)
	roleID, secretID := c.vault.AppRole(t, "approle", "daypass", []string{"daypass"}, peers.Data{"token_no_default_policy": true})
	c.roleID = roleID
	c.write("secret_id", secretID)
	c.broker.kill()
	text := c.read("daypass.yaml")
	c.write("daypass.yaml", strings.Replace(text, "auth: { jwt: { role: daypass, audience: vault } }",
		fmt.Sprintf(`auth: { approle: { role_id: "%s", secret_id_file: secret_id } }`, roleID), 1))
	c.addSections(fmt.Sprintf(`
rotations:
  - name: broker-secret-id
    vault_approle: { issuer: prod-vault, role_name: daypass, verify: { path: %s } }
`, credsPath))
	c.startBroker()
	return c
}

// signIn signs in to Vault as the broker does.
func (c *secretIDCluster) signIn(secretID string) error {
	_, err := c.vault.As("").Logical().WriteWithContext(c.t.Context(), "auth/approle/login", peers.Data{"role_id": c.roleID, "secret_id": secretID})
	return err
}

// replaced checks that the secret ID in the file is a new one, the only one that Vault knows, and that
// the one of before is refused.
func (c *secretIDCluster) replaced(before string) {
	c.t.Helper()
	after := c.read("secret_id")
	if after == before {
		c.t.Error("the file has the secret ID of before")
	}
	if err := c.signIn(after); err != nil {
		c.t.Errorf("with what stands in the file: %v", err)
	}
	if err := c.signIn(before); err == nil {
		c.t.Error("Vault takes the secret ID of before")
	}
	listed, err := c.vault.Client.Logical().ListWithContext(c.t.Context(), "auth/approle/role/daypass/secret-id")
	if err != nil || listed == nil || len(listed.Data["keys"].([]any)) != 1 {
		c.t.Errorf("Vault lists the secret IDs %v (%v), want one", listed, err)
	}
}

// TestSecretIDRotation rotates the secret ID by which the broker itself signs in, also through the
// broker's death: what was minted before works, what comes after too, and nobody can sign in with the
// old one.
func TestSecretIDRotation(t *testing.T) {
	c := newSecretIDCluster(t)
	g, err := c.exchange()
	if err != nil {
		t.Fatal(err)
	}
	works := func(t *testing.T, before string) {
		t.Helper()
		c.replaced(before)
		if err := c.login(g.Credential); err != nil {
			t.Errorf("a user from before the rotation: %v", err)
		}
		fresh, err := c.exchange()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.login(fresh.Credential); err != nil {
			t.Errorf("a user from after the rotation: %v", err)
		}
		eventually(t, "Vault and daypass agree", c.agree)
	}
	before := c.read("secret_id")
	c.rotated("broker-secret-id")
	works(t, before)
	for _, point := range []string{"switch.after-act", "retire.after-act"} {
		t.Run(point, func(t *testing.T) {
			c.t, c.cluster.t = t, t
			before := c.read("secret_id")
			r := c.rotatedThroughDeath("broker-secret-id", point)
			works(t, before)
			c.onceEach(r.GetId())
		})
	}
	c.t, c.cluster.t = t, t
	c.startBroker() // the last one ended with its test
	if _, err := c.as(g.Token.RevealString()).Revoke(t.Context(), "", "job done"); err != nil {
		t.Fatal(err)
	}
	if c.login(g.Credential) == nil {
		t.Error("a user from before the rotations can log in after the revocation")
	}
}

// kvPolicy is what rotating secrets in Vault's KV needs beside vaultPolicy.
const kvPolicy = vaultPolicy + `
path "secret/data/orders/*" { capabilities = ["read", "create", "update"] }
path "secret/destroy/orders/*" { capabilities = ["update"] }
`

// kvOverlap is how long the old one of two roles stays good.
const kvOverlap = time.Second

// newKVCluster is a vaultCluster with two secrets in Vault's KV: one opens PostgreSQL by two roles in
// turns, the other by one role.
func newKVCluster(t *testing.T) *vaultCluster {
	t.Helper()
	c := newVaultCluster(t)
	c.vault.Policy(t, "daypass", kvPolicy)
	first := "first-" + rand.Text()
	err := c.pg.Exec(t.Context(), strings.ReplaceAll(`
CREATE ROLE orders NOLOGIN;
CREATE ROLE orders_a LOGIN IN ROLE orders PASSWORD 'FIRST';
CREATE ROLE orders_b LOGIN IN ROLE orders;
CREATE ROLE orders_one LOGIN PASSWORD 'FIRST';`, "FIRST", first))
	if err != nil {
		t.Fatal(err)
	}
	c.vault.KV(t, "orders/pair", peers.Data{"username": "orders_a", "password": first, "host": "db.example.com"})
	c.vault.KV(t, "orders/single", peers.Data{"username": "orders_one", "password": first})
	c.write("admin.password", c.pg.Password)
	c.broker.kill()
	c.addSections(strings.NewReplacer(
		"URL", fmt.Sprintf("postgres://%s/%s?sslmode=disable", c.pg.Addr(), c.pg.Database), "ADMIN", c.pg.User, "OVERLAP", kvOverlap.String(),
	).Replace(`
rotations:
  - name: pair
    kv:
      issuer: prod-vault
      path: secret/orders/pair
      overlap: OVERLAP
      postgres: { url: "URL", allow_plain: true, roles: [orders_a, orders_b], admin: { username: ADMIN, password: "file:admin.password" } }
  - name: single
    kv:
      issuer: prod-vault
      path: secret/orders/single
      postgres: { url: "URL", allow_plain: true, admin: { username: ADMIN, password: "file:admin.password" } }
`))
	c.startBroker()
	return c
}

// opener is a secret in KV that opens PostgreSQL.
type opener struct {
	username, password string
	readAt             time.Time // it was still there then
}

func (c *vaultCluster) readKV(ctx context.Context, path string) (opener, error) {
	at := time.Now()
	secret, err := c.vault.Client.Logical().ReadWithContext(ctx, "secret/data/"+path)
	if err != nil || secret == nil {
		return opener{}, fmt.Errorf("read %s: %v, %w", path, secret, err)
	}
	data, _ := secret.Data["data"].(map[string]any)
	username, _ := data["username"].(string)
	password, _ := data["password"].(string)
	return opener{username, password, at}, nil
}

// kvReaders are programs that read a secret and log in with it, over and over.
type kvReaders struct {
	end             context.CancelFunc
	done            chan error
	logins, refused atomic.Int64
}

// startReaders starts some. They fail when what they have just read does not open; patient ones note that
// they were refused, and read again.
func startReaders(c *vaultCluster, path string, patient bool) *kvReaders {
	ctx, cancel := context.WithCancel(c.t.Context())
	r := &kvReaders{end: cancel, done: make(chan error, 1)}
	readers, failed := errgroup.WithContext(ctx)
	for range 4 {
		readers.Go(func() error {
			for failed.Err() == nil {
				if err := r.one(context.WithoutCancel(ctx), c, path, patient); err != nil {
					return err
				}
			}
			return nil
		})
	}
	go func() { r.done <- readers.Wait() }()
	return r
}

// one reads and logs in. Who was refused with what was read before the overlap, or is patient, reads
// again until that opens.
func (r *kvReaders) one(ctx context.Context, c *vaultCluster, path string, patient bool) error {
	deadline := time.Now().Add(patience)
	for {
		read, err := c.readKV(ctx, path)
		if err != nil {
			return err
		}
		err = c.pg.Login(ctx, read.username, read.password)
		switch {
		case err == nil:
			r.logins.Add(1)
			return nil
		case !patient && time.Since(read.readAt) < kvOverlap:
			return fmt.Errorf("refused as %s: %w", read.username, err)
		case time.Now().After(deadline):
			return fmt.Errorf("refused for good as %s: %w", read.username, err)
		}
		r.refused.Add(1)
	}
}

func (r *kvReaders) stop() error {
	r.end()
	return <-r.done
}

// TestKVReadersThroughRotations rotates secrets ten times while programs read them and log in. With two
// roles in turns none of them is ever refused. With one role those that come in the wrong instant are,
// and get in when they read again.
func TestKVReadersThroughRotations(t *testing.T) {
	c := newKVCluster(t)
	for _, root := range []string{"pair", "single"} {
		t.Run(root, func(t *testing.T) {
			c.t, c.cluster.t = t, t
			path := "orders/" + root
			readers := startReaders(c, path, root == "single")
			users := map[string]bool{}
			for range 10 {
				old, err := c.readKV(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				c.rotated(root)
				now, err := c.readKV(t.Context(), path)
				if err != nil || now.password == old.password {
					t.Fatalf("KV has the password of before, %v", err)
				}
				if c.pg.Login(t.Context(), old.username, old.password) == nil {
					t.Errorf("the old password of %s opens after the rotation", old.username)
				}
				users[now.username] = true
			}
			if err := readers.stop(); err != nil {
				t.Error(err)
			}
			t.Logf("%d logins, %d refused", readers.logins.Load(), readers.refused.Load())
			if readers.logins.Load() < 20 {
				t.Error("too few logins to prove anything")
			}
			if want := map[string]int{"pair": 2, "single": 1}[root]; len(users) != want {
				t.Errorf("the users %v took turns, want %d", users, want)
			}
		})
	}
	c.t, c.cluster.t = t, t
	if n := c.retired(); n != 20 {
		t.Errorf("the log tells of %d retired roots, want 20", n)
	}
	if host, err := c.vault.Client.Logical().ReadWithContext(t.Context(), "secret/data/orders/pair"); err != nil || host.Data["data"].(map[string]any)["host"] != "db.example.com" {
		t.Errorf("a field that is none of the rotation's: %v, %v", host, err)
	}
}
