package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Rotation is a root credential that the broker can replace by another: besides what is listed here it
// has one key that names its driver and holds its settings. docs/rotation/README.md has the drivers.
type Rotation struct {
	RotationPlan

	// The driver's key, e.g. `vault_root`.
	Driver string
	// The driver's settings.
	Section *strictyaml.Node
	// Upkeep is the compiled schedule and approval, not a part of the file.
	Upkeep policy.Upkeep
}

// RotationPlan is what every rotation has.
type RotationPlan struct {
	// The name that `daypass rotate` uses.
	Name string `yaml:"name,required"`
	// The targets whose credentials hang on the root. The default is those of the driver's issuer that the root
	// makes: of vault_root the paths below its mount, of kv its own path, else all.
	Targets []string `yaml:"targets"`
	// When it is rotated without being asked. Never by default.
	Schedule *policy.Schedule `yaml:"schedule"`
	// Whose agreement each rotation needs. Nobody's by default.
	Approval *policy.Approval `yaml:"approval"`
	// What becomes of the credentials that the old root minted: `keep` lets them live until their own
	// end, `wait` keeps the old root until they have ended, `revoke` ends them.
	OldLeases string `yaml:"old_leases" default:"keep" enum:"keep,wait,revoke"`
}

// planKeys are the keys of a RotationPlan; the one that is left is the driver's.
var planKeys = []string{"name", "targets", "schedule", "approval", "old_leases"}

// DecodeNode implements strictyaml.Decoder.
func (r *Rotation) DecodeNode(n *strictyaml.Node) strictyaml.Problems {
	if n.Kind() != strictyaml.Mapping {
		return strictyaml.Problems{n.Problem("", "must be a mapping with a name and a driver", "")}
	}
	drivers := slices.DeleteFunc(n.Keys(), func(key string) bool { return slices.Contains(planKeys, key) })
	problems := n.Without(drivers...).Decode(&r.RotationPlan)
	if len(drivers) != 1 {
		return append(problems, n.Problem("", "must have one key besides "+strings.Join(planKeys, ", ")+", which names the driver and holds its settings", ""))
	}
	r.Driver, r.Section = drivers[0], n.Get(drivers[0])
	return problems
}

// Decode reads the driver's settings into a struct, and returns every problem with its place.
func (r Rotation) Decode(into any) strictyaml.Problems { return r.Section.Decode(into) }

func (k *checker) rotations() {
	names := map[string]bool{}
	for i := range k.Rotations {
		r := &k.Rotations[i]
		path := strictyaml.Index("rotations", i)
		if r.Name == "" && r.Driver == "" {
			continue // it is no mapping, which has been told
		}
		k.name(path+".name", r.Name, names)
		if r.Driver != "" && k.o.RotationDrivers != nil && !slices.Contains(k.o.RotationDrivers, r.Driver) {
			k.refuse(strictyaml.Key(path, r.Driver), "there is no such driver", hint(r.Driver, k.o.RotationDrivers))
		}
		for j, t := range r.Targets {
			if !slices.Contains(k.targetNames(), t) {
				k.refuse(strictyaml.Index(path+".targets", j), fmt.Sprintf("there is no target %q", t), hint(t, k.targetNames()))
			}
		}
		upkeep, problems := policy.CompileUpkeep(k.Source, path, r.Schedule, r.Approval)
		r.Upkeep = upkeep
		k.problems = append(k.problems, problems...)
	}
}
