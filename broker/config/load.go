package config

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Options are what the program knows and this package does not.
type Options struct {
	// Detectors are the names that mask.detectors may hold; nil permits all.
	Detectors []string
	// Drivers are the keys that an issuer may have; nil permits all.
	Drivers []string
	// RotationDrivers are the keys that a rotation may have; nil permits all.
	RotationDrivers []string
	// WithoutFiles leaves out the check that the files which the configuration names exist: for
	// commands that run elsewhere than the broker.
	WithoutFiles bool
	// Schedules reads on-call schedules all the same: they are a part of the rules.
	Schedules bool
	// More finds what only the program can, such as problems of issuers' own sections. It is called
	// with what could be read, also where there are problems already; Policy is then nil.
	More func(*Config) strictyaml.Problems
}

// Load reads and checks the file at a path. The error is a strictyaml.Problems with everything that
// is wrong.
func Load(path string, o Options) (*Config, error) {
	root, problems := strictyaml.ReadFile(path)
	return load(root, problems, o)
}

// Parse is Load for a text that stands, or would stand, at a path.
func Parse(path string, text []byte, o Options) (*Config, error) {
	root, problems := strictyaml.Parse(path, text)
	return load(root, problems, o)
}

func load(root *strictyaml.Node, problems strictyaml.Problems, o Options) (*Config, error) {
	if len(problems) > 0 && root.Kind() == strictyaml.Null {
		return nil, problems // it is no YAML: what follows from that would only hide it
	}
	c := &Config{}
	problems = problems.Merge(root.Decode(c))
	k := &checker{Config: c, root: root, o: o}
	k.server()
	k.audit()
	k.files()
	k.identity()
	k.providers()
	k.issuers()
	k.issuing()
	k.proxies()
	k.notices()
	k.targets()
	k.policy()
	k.rotations()
	if o.More != nil {
		k.problems = append(k.problems, o.More(c)...)
	}
	if err := problems.Merge(k.problems).Sorted().Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// checker checks what a file that has been read means, and fills in what follows from it.
type checker struct {
	*Config
	root     *strictyaml.Node
	o        Options
	problems strictyaml.Problems
}

func (k *checker) refuse(path, message, hint string) {
	k.problems = append(k.problems, k.root.Problem(path, message, hint))
}

// name checks a name and that it is not among those before it.
func (k *checker) name(path, name string, names map[string]bool) {
	switch {
	case !policy.ValidName(name):
		k.refuse(path, "is not a name: "+policy.NameRule, "")
	case names[name]:
		k.refuse(path, fmt.Sprintf("the name %q is used twice", name), "")
	}
	names[name] = true
}

// inFolder returns a path as seen from the working folder; the file has it relative to its own.
func (k *checker) inFolder(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(k.root.Dir(), name)
}

// file takes a file's name in from the configuration file's folder, and checks that it is there.
func (k *checker) file(path string, name *string) {
	if *name == "" {
		return
	}
	*name = k.inFolder(*name)
	if info, err := os.Stat(*name); !k.o.WithoutFiles && (err != nil || !info.Mode().IsRegular()) {
		k.refuse(path, fmt.Sprintf("there is no file %s", *name), "paths are relative to the folder of this file")
	}
}
