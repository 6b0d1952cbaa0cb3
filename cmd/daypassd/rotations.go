package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
)

// rootSection is a rotation's section in the configuration.
type rootSection interface {
	// of is the name of the issuer whose root it is; empty for one of the broker's own.
	of() string
	// problems finds what the types of its keys don't tell.
	problems(s *settings, at *strictyaml.Node) strictyaml.Problems
	open(s *settings, w workshop) (issuer.Rotator, error)
}

// The drivers of rotations.
const (
	vaultRootDriver   = "vault_root"
	appRoleDriver     = "vault_approle"
	kvDriver          = "kv"
	appKeyDriver      = "github_app"
	signingKeysDriver = "signing_keys"
	sealingKeyDriver  = "sealing_key"
	logKeyDriver      = "log_key"
	proxyCADriver     = "proxy_ca"
)

// rotationDrivers returns all of them.
func rotationDrivers() []string {
	return []string{vaultRootDriver, appRoleDriver, kvDriver, appKeyDriver, signingKeysDriver, sealingKeyDriver, logKeyDriver, proxyCADriver}
}

// newRootSection returns the empty section of a driver, nil where there is no such driver.
func newRootSection(driver string) rootSection {
	switch driver {
	case vaultRootDriver:
		return &vaultRootSection{}
	case appRoleDriver:
		return &appRoleSection{}
	case kvDriver:
		return &kvSection{}
	case appKeyDriver:
		return &appKeySection{}
	case signingKeysDriver:
		return &signingKeysSection{}
	case sealingKeyDriver:
		return &sealingKeySection{}
	case logKeyDriver:
		return &logKeySection{}
	case proxyCADriver:
		return &proxyCASection{}
	default:
		return nil
	}
}

// rotationProblems reads the sections of the rotations.
func (s *settings) rotationProblems(c *config.Config) strictyaml.Problems {
	var problems strictyaml.Problems
	for i, r := range c.Rotations {
		section := newRootSection(r.Driver)
		s.roots = append(s.roots, section)
		if section == nil {
			continue // package config has told that there is no such driver
		}
		found := r.Decode(section)
		found = found.Merge(section.problems(s, r.Section))
		if slices.ContainsFunc(c.Rotations[:i], func(o config.Rotation) bool { return o.Driver == r.Driver }) && section.of() == "" {
			found = append(found, r.Section.Problem("", "is here twice: the broker has one such root", ""))
		}
		problems = append(problems, found...)
	}
	return problems
}

// issuerProblem refuses an issuer that is none with a driver.
func (s *settings) issuerProblem(at *strictyaml.Node, name, driver string) strictyaml.Problems {
	if name == "" || s.driverOf(name) == driver {
		return nil // that it is missing has been told
	}
	return strictyaml.Problems{at.Problem("issuer", "is not the name of an issuer with the driver "+driver, "")}
}

// openRoots makes the roots that the broker rotates.
func (s *settings) openRoots(w workshop) ([]broker.Root, error) {
	var all []broker.Root
	for i, r := range s.config.Rotations {
		w.root = r.Name
		rotator, err := s.roots[i].open(s, w)
		if err != nil {
			return nil, fmt.Errorf("rotation %q: %s", r.Name, cred.PublicText(err))
		}
		root := broker.Root{
			Name: r.Name, Rotator: rotator, Issuer: s.roots[i].of(), Targets: r.Targets,
			Demand: r.Upkeep.Demand, OldLeases: broker.OldLeases(r.OldLeases),
		}
		if r.Schedule != nil {
			root.Schedule = func(last time.Time) time.Time { return r.Upkeep.Next(last, time.Now()) }
		}
		all = append(all, root)
	}
	return all, nil
}
