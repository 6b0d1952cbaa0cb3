package vault_test

import (
	"testing"

	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/vault"
)

func TestRootCovers(t *testing.T) {
	f := newFake(t, false)
	iss := newIssuer(t, f.config())
	for path, want := range map[string]map[string]bool{
		"database/rotate-root/pg": {
			"database/creds/orders": true, "database/static-creds/orders": true, "databases/creds/orders": false, "secret/database/x": false,
			"database/creds/{role}": true, "database/{kind}/orders": true, "{mount}/creds/orders": true, "data{mount}/creds/x": true, "kv/{path}": false,
		},
		"database/rotate-role/ada": {
			"database/static-creds/ada": true, "database/static-creds/adam": false, "database/static-creds/bob": false, "database/static-creds/{role}": true,
			"other/static-creds/ada": false,
		},
		"aws/config/rotate-root":      {"aws/creds/deploy": true, "aws/sts/deploy": true, "aws-dev/creds/deploy": false},
		"auth/aws/config/rotate-root": {"aws/creds/deploy": false},
	} {
		r, err := iss.RootRotator(vault.RootConfig{Path: path, Verify: vault.VerifyConfig{Path: "any/creds/x"}})
		if err != nil {
			t.Fatal(err)
		}
		for target, want := range want {
			if got := r.(issuer.Scoped).Covers(target); got != want {
				t.Errorf("the root of %s covers %s: %v, want %v", path, target, got, want)
			}
		}
	}
}
