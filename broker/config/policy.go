package config

import (
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// policy compiles the rule set.
func (k *checker) policy() {
	k.Source.At = k.root
	k.Source.Providers = make([]string, 0, len(k.IdentityProviders))
	k.Source.NoTokenGroups = true
	for _, p := range k.IdentityProviders {
		k.Source.Providers = append(k.Source.Providers, p.Name)
		if as, _ := p.provider(0); as.GroupsClaim != "" {
			k.Source.NoTokenGroups = false
		}
	}
	for i := range k.OnCall {
		k.schedule(strictyaml.Index("on_call", i), &k.OnCall[i])
	}
	set, problems := policy.Compile(k.Source)
	k.Policy, k.problems = set, append(k.problems, problems...)
}

// shifts is a schedule's file.
type shifts struct {
	Shifts []policy.Shift `yaml:"shifts,required"`
}

// schedule reads a schedule's shifts where they stand in a file of their own. File is then the file
// as seen from the working folder. Without files, nobody is on call, unless schedules are asked for.
func (k *checker) schedule(path string, o *policy.OnCall) {
	if (o.File == "") == (len(o.Shifts) == 0) {
		k.refuse(path, "must have a file or shifts, and not both", "")
	}
	if o.File == "" {
		return
	}
	before := len(k.problems)
	k.file(path+".file", &o.File)
	if k.o.WithoutFiles && !k.o.Schedules || len(k.problems) > before {
		return
	}
	var read shifts
	root, problems := strictyaml.ReadFile(o.File)
	if len(problems) == 0 || root.Kind() != strictyaml.Null {
		problems = problems.Merge(root.Decode(&read))
	}
	o.Shifts, o.At = read.Shifts, root
	k.problems = append(k.problems, problems...)
}
