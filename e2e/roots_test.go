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

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
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

// kvCluster is a vaultCluster with three secrets in Vault's KV: one opens PostgreSQL by two roles in turns,
// the others by one role, whose password an admin changes, or itself.
type kvCluster struct {
	*vaultCluster
	wire *wire // to PostgreSQL, for the role that changes its own password
}

func newKVCluster(t *testing.T) *kvCluster {
	t.Helper()
	c := &kvCluster{vaultCluster: newVaultCluster(t)}
	c.wire = newWire(t, c.pg.Addr())
	c.vault.Policy(t, "daypass", kvPolicy)
	first := "first-" + rand.Text()
	err := c.pg.Exec(t.Context(), strings.ReplaceAll(`
CREATE ROLE orders NOLOGIN;
CREATE ROLE orders_a LOGIN IN ROLE orders PASSWORD 'FIRST';
CREATE ROLE orders_b LOGIN IN ROLE orders;
CREATE ROLE orders_one LOGIN PASSWORD 'FIRST';
CREATE ROLE orders_self LOGIN PASSWORD 'FIRST';`, "FIRST", first))
	if err != nil {
		t.Fatal(err)
	}
	c.vault.KV(t, "orders/pair", peers.Data{"username": "orders_a", "password": first, "host": "db.example.com"})
	c.vault.KV(t, "orders/single", peers.Data{"username": "orders_one", "password": first})
	c.vault.KV(t, "orders/self", peers.Data{"username": "orders_self", "password": first})
	c.write("admin.password", c.pg.Password)
	c.broker.kill()
	c.addSections(strings.NewReplacer(
		"URL", fmt.Sprintf("postgres://%s/%s?sslmode=disable", c.pg.Addr(), c.pg.Database),
		"WIRE", fmt.Sprintf("postgres://%s/%s?sslmode=disable", c.wire.addr, c.pg.Database), "ADMIN", c.pg.User, "OVERLAP", kvOverlap.String(),
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
  - name: self
    kv:
      issuer: prod-vault
      path: secret/orders/self
      postgres: { url: "WIRE", allow_plain: true }
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
			readers := startReaders(c.vaultCluster, path, root == "single")
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

// TestKilledInKVRotation kills the broker with SIGKILL in each step of the rotation of two roles that take
// turns, and in those steps of a single role's that change or use something at the source, the switch's two
// writes included: before that to KV, and between it and PostgreSQL's commit. Once it loses PostgreSQL's
// answer to the commit instead. The next broker brings the rotation to its end: the old password opens no
// more, KV got one version, and no password is in what was written. What stands in KV opens PostgreSQL while
// the broker is dead, too, but for the instant between the two writes, when the old password does.
//
// Within a step there are the points after-begin and after-act. Between the steps a rotator has nothing
// half done, so one such point is enough here, that after the switch; TestKilledInRotation has them all.
func TestKilledInKVRotation(t *testing.T) {
	t.Parallel() // most of it waits
	c := newKVCluster(t)
	c.abandonAfter("2s")
	within := func(points []string, steps ...cred.RotationStep) []string {
		for _, step := range steps {
			points = append(points, string(step)+".after-begin", string(step)+".after-act")
		}
		return points
	}
	writes := []string{"kv.before-write", beforeCommit}
	for _, root := range []struct {
		name   string
		points []string
	}{
		{"pair", within([]string{"switch.after-outcome"}, cred.RotationSteps()...)},
		{"single", within(append(writes, "switch.after-outcome"), cred.StepSwitch, cred.StepVerify, cred.StepRetire)},
		{"self", append(writes, "switch.after-act", commitLost)},
	} {
		for _, point := range root.points {
			t.Run(root.name+"/"+point, func(t *testing.T) {
				c.t, c.cluster.t = t, t
				c.killedInKV(root.name, point)
			})
		}
	}
}

const (
	beforeCommit = "kv.before-commit" // KV has the new password of a single role, and PostgreSQL the old one
	commitLost   = "commit lost"      // no death: the broker does not get PostgreSQL's answer
)

func (c *kvCluster) killedInKV(root, point string) {
	c.t.Helper()
	path := "orders/" + root
	old, before := c.opensKV(path), c.kvVersions(path)
	r := c.breaksInKV(root, point)
	dead := c.broker
	if point == beforeCommit {
		now, err := c.readKV(c.t.Context(), path)
		if err != nil || now.password == old.password || c.pg.Login(c.t.Context(), now.username, now.password) == nil {
			c.t.Errorf("KV has the new password: %v; it is to be there, and not yet to open (%v)", now.password != old.password, err)
		}
	} else {
		c.opensKV(path)
	}
	if point == beforeCommit || root == "pair" && point != "retire.after-act" {
		if err := c.pg.Login(c.t.Context(), old.username, old.password); err != nil {
			c.t.Errorf("the login of before is refused while the broker is dead: %v", err)
		}
	}
	if point != commitLost {
		c.startBroker()
	}
	r = c.goesOn(r)
	now := c.opensKV(path)
	if now.password == old.password || (now.username != old.username) != (root == "pair") {
		c.t.Errorf("after the rotation KV names %s, before it %s; the password is a new one: %v", now.username, old.username, now.password != old.password)
	}
	if c.pg.Login(c.t.Context(), old.username, old.password) == nil {
		c.t.Errorf("the old password of %s opens after the rotation", old.username)
	}
	if after := c.kvVersions(path); after.current != before.current+1 || after.kept != 1 {
		c.t.Errorf("KV is at version %d and keeps %d, want one more than %d and 1", after.current, after.kept, before.current)
	}
	c.onceEach(r.GetId())
	c.wroteNone(map[string]string{"old password": old.password, "new password": now.password, "journal in the clear": "kv.new"}, dead, c.broker)
}

// breaksInKV begins to rotate a root with a broker that dies at a point, or loses the answer to a commit.
func (c *kvCluster) breaksInKV(root, point string) *pb.Rotation {
	c.t.Helper()
	if point != commitLost {
		return c.diesInRotation(root, point)
	}
	c.broker.kill()
	c.startBroker()
	lost := c.wire.loseCommit()
	r, err := c.as(c.person("security")).Rotate(c.t.Context(), root, "a test")
	if err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-lost:
	case <-time.After(patience):
		c.t.Fatal("nothing was committed")
	}
	return r
}

// opensKV reads a secret, which must open PostgreSQL.
func (c *vaultCluster) opensKV(path string) opener {
	c.t.Helper()
	read, err := c.readKV(c.t.Context(), path)
	if err == nil {
		err = c.pg.Login(c.t.Context(), read.username, read.password)
	}
	if err != nil {
		c.t.Fatalf("what stands in KV does not open: %v", err)
	}
	return read
}

// versions are those of a secret in KV.
type versions struct{ current, kept int }

func (c *vaultCluster) kvVersions(path string) versions {
	c.t.Helper()
	all, err := c.vault.Client.KVv2("secret").GetVersionsAsList(c.t.Context(), path)
	if err != nil || len(all) == 0 {
		c.t.Fatalf("%s has the versions %v, %v", path, all, err)
	}
	v := versions{current: all[len(all)-1].Version}
	for _, one := range all {
		if !one.Destroyed {
			v.kept++
		}
	}
	return v
}
