package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/e2e/peers"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// TestSyntaxErrorTellsNoPassword has a statement in Vault by which a root's password is set, with a
// mistake in it: PostgreSQL quotes the new password, and Vault passes that on. It comes no further: what
// the rotation shows, of which notices are made, the audit log and the broker's own log tell what to do
// without it. Once the statement is mended the rotation goes on by itself.
func TestSyntaxErrorTellsNoPassword(t *testing.T) {
	t.Parallel()
	c := rotatedCluster(t, newCluster(t))
	known := strings.Repeat("Q", 24) // what Vault makes of every new password
	c.vault.Write(t, "sys/policies/password/known", peers.Data{"policy": "length = 24\nrule \"charset\" { charset = \"Q\" }"})
	c.vault.Write(t, "database/config/pg", peers.Data{"password_policy": "known", "root_rotation_statements": []string{`ALTER ROLE "{{name}}" WITH PASSWORD {{password}}`}})
	if _, err := c.vault.Client.Logical().WriteWithContext(t.Context(), "database/rotate-root/pg", nil); err == nil || !strings.Contains(err.Error(), known[:20]) {
		t.Fatalf("Vault tells no password, so nothing can be seen here: %v", err)
	}
	security := c.as(c.person("security"))
	r, err := security.Rotate(t.Context(), "orders-root", "a test")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rotation tells why it does not get on", func() error {
		all, err := security.Rotations(t.Context(), 0)
		if err != nil || len(all) != 1 || !strings.Contains(all[0].GetWhy(), "Vault's audit log says why") {
			return fmt.Errorf("it stands as %v, %w", all, err)
		}
		r = all[0]
		return nil
	})
	c.vault.Write(t, "database/config/pg", peers.Data{"root_rotation_statements": []string{`ALTER ROLE "{{name}}" WITH PASSWORD '{{password}}'`}})
	var shown []string
	r, err = c.watch(t.Context(), r, func(now *pb.Rotation) { shown = append(shown, now.String()) })
	if err != nil || r.GetState() != string(cred.RotationDone) {
		t.Fatalf("the rotation stands as %v, %v", r, err)
	}
	entries, err := json.Marshal(c.export())
	if err != nil {
		t.Fatal(err)
	}
	log := c.broker.log.String()
	for where, text := range map[string]string{"the rotation": fmt.Sprint(shown), "the audit log": string(entries), "the broker's log": log} {
		if strings.Contains(text, "QQQQ") {
			t.Errorf("%s has the new password", where)
		}
	}
	if !strings.Contains(log, "SQLSTATE 42601") {
		t.Errorf("the broker's log does not tell the operator what kind of error it is:\n%s", log)
	}
}
