package config_test

import (
	"strings"
	"testing"

	"github.com/daypass-io/daypass/broker/config"
)

const rotationsHead = `
server: { plain: true }
issuers: [{ name: v, vault: {} }]
targets: [{ name: db, credential: { issuer: v, path: p } }]
groups: [{ name: security, members: [{ provider: okta, subject: s }] }]
identity_providers: [{ name: okta, issuer: "https://okta.example.com", audiences: [daypass] }]
rotations:
`

func TestRotationsAreRead(t *testing.T) {
	c, err := config.Parse("daypass.yaml", []byte(rotationsHead+`
  - name: db-root
    vault_root: { issuer: v, path: database/rotate-root/db }
    schedule: { every: 720h }
    approval: { all_of: [{ group: security, count: 2 }], within: 24h }
`), config.Options{WithoutFiles: true, RotationDrivers: []string{"vault_root"}})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Rotations[0]
	var section struct {
		Issuer string `yaml:"issuer"`
		Path   string `yaml:"path"`
	}
	if problems := r.Decode(&section); len(problems) > 0 || section.Issuer != "v" {
		t.Errorf("the section is %+v, %v", section, problems)
	}
	if r.Name != "db-root" || r.Driver != "vault_root" || r.OldLeases != "keep" || r.Upkeep.Demand.InWords() != "2 of security" {
		t.Errorf("got %+v", r)
	}
}

func TestRotationsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no driver":          {`  - { name: a }`, "must have one key besides"},
		"two drivers":        {`  - { name: a, vault_root: {}, kv: {} }`, "must have one key besides"},
		"an unknown driver":  {`  - { name: a, vault_rot: {} }`, `(did you mean "vault_root"?)`},
		"no name":            {`  - { vault_root: {} }`, "name"},
		"twice":              {"  - { name: a, vault_root: {} }\n  - { name: a, vault_root: {} }", "used twice"},
		"no such target":     {`  - { name: a, vault_root: {}, targets: [dc] }`, `there is no target "dc"`},
		"a bad schedule":     {`  - { name: a, vault_root: {}, schedule: { every: 1m } }`, "schedule.every"},
		"nobody to approve":  {`  - { name: a, vault_root: {}, approval: { within: 1h } }`, "approval"},
		"strange old leases": {`  - { name: a, vault_root: {}, old_leases: burn }`, "old_leases"},
		"no mapping":         {`  - a`, "must be a mapping"},
	} {
		_, err := config.Parse("daypass.yaml", []byte(rotationsHead+c.text), config.Options{WithoutFiles: true, RotationDrivers: []string{"vault_root"}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
