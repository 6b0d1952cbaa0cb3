package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/proxy/mask"
	"github.com/daypass-io/daypass/store"
)

// settings are the configuration with everything that can be checked without a network checked.
type settings struct {
	config  *config.Config
	dir     string // of the file: paths in issuers' sections are relative to it
	signer  *audit.Signer
	sealing *store.SealingKey
	drivers []driver      // one for each of config.Issuers
	roots   []rootSection // one for each of config.Rotations
}

// loadSettings reads the configuration and names every problem, those of the issuers' own sections
// and of the key files included.
func loadSettings(path string) (*settings, error) {
	detectors := append([]string{"secrets", "pii"}, mask.Names()...)
	s := &settings{dir: filepath.Dir(path)}
	_, err := config.Load(path, config.Options{Detectors: detectors, Drivers: drivers(), RotationDrivers: rotationDrivers(), More: s.problems})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// problems finds what package config can't.
func (s *settings) problems(c *config.Config) strictyaml.Problems {
	s.config = c
	problems := s.keyProblems(c)
	for _, section := range c.Issuers {
		d, found := s.readDriver(section)
		if len(found) == 0 && d != nil {
			found = s.tryDriver(section, d)
		}
		s.drivers = append(s.drivers, d)
		problems = append(problems, found...)
	}
	if _, err := openChannels(c); err != nil {
		problems = append(problems, c.At.Problem("notices.channels", err.Error(), ""))
	}
	problems = append(problems, s.jobsProblems(c)...)
	problems = append(problems, s.rotationProblems(c)...)
	return append(problems, deliveryProblems(c)...)
}

// keyProblems reads the broker's key files. One that is not there is known already.
func (s *settings) keyProblems(c *config.Config) strictyaml.Problems {
	var problems strictyaml.Problems
	refuse := func(path string, err error) {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			problems = append(problems, c.At.Problem(path, cred.PublicText(err), ""))
		}
	}
	var err error
	s.sealing, err = store.ReadSealingKey(c.Store.SealingKey)
	refuse("store.sealing_key", err)
	s.signer, err = openSigner(c)
	refuse("audit.signing_key", err)
	return problems
}

// deliveryProblems finds targets, and rules, that hand a secret out which only a proxy may hold.
func deliveryProblems(c *config.Config) strictyaml.Problems {
	shared := map[string]string{} // what would be handed out, by issuer
	for _, i := range c.Issuers {
		switch i.Driver {
		case staticDriver:
			shared[i.Name] = "the static secret"
		case copilotDriver:
			shared[i.Name] = "the session of the whole seat"
		}
	}
	var problems strictyaml.Problems
	refuse := func(path, what, issuer, hint string) {
		problems = append(problems, c.At.Problem(path, fmt.Sprintf("delivers %s of issuer %q%s to the caller, who would keep it", shared[issuer], issuer, what), hint))
	}
	for i, t := range c.Targets {
		if shared[t.Credential.Issuer] == "" {
			continue
		}
		if t.Deliver == string(cred.DeliverDirect) || t.Deliver == "" && t.HTTP == nil {
			refuse(strictyaml.Index("targets", i), "", t.Credential.Issuer, "set http, so that a proxy spends it")
		}
		for j, r := range c.Rules {
			names := func(m policy.May) bool { return glob.Pattern(m.Target).Match(t.Name) }
			if r.Deliver == string(cred.DeliverDirect) && slices.ContainsFunc(r.May, names) {
				refuse(strictyaml.Index("rules", j)+".deliver", fmt.Sprintf(", at target %q,", t.Name), t.Credential.Issuer, "leave deliver to the target")
			}
		}
	}
	return problems
}

// openSigner reads the key that signs the log's checkpoints.
func openSigner(c *config.Config) (*audit.Signer, error) {
	key, err := keyfile.Read(c.Audit.SigningKey)
	if err != nil {
		return nil, err
	}
	signer, err := audit.ParseSigner(key)
	if err != nil {
		return nil, err
	}
	if signer.Origin() != c.Audit.Origin {
		return nil, cred.Errorf(cred.Invalid, "settings", fmt.Sprintf(
			"is the key of the log %q, and this file names the log %q; set audit.origin, or use the key of that log", signer.Origin(), c.Audit.Origin), "origin")
	}
	return signer, nil
}
