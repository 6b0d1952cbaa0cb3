package main

import (
	"fmt"
	"path/filepath"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/proxy/mask"
)

// settings are the configuration with everything that can be checked without a network checked.
type settings struct {
	config  *config.Config
	dir     string // of the file: paths in issuers' sections are relative to it
	signer  *audit.Signer
	drivers []driver // one for each of config.Issuers
}

// loadSettings reads the configuration and names every problem, those of the issuers' own sections
// included.
func loadSettings(path string) (*settings, error) {
	detectors := append([]string{"secrets", "pii"}, mask.Names()...)
	c, err := config.Load(path, config.Options{Detectors: detectors, Drivers: []string{vaultDriver, staticDriver}})
	if err != nil {
		return nil, err
	}
	s := &settings{config: c, dir: filepath.Dir(path)}
	var problems strictyaml.Problems
	for _, section := range c.Issuers {
		d, found := s.readDriver(section)
		s.drivers = append(s.drivers, d)
		problems = append(problems, found...)
	}
	problems = append(problems, s.deliveryProblems()...)
	if err := problems.Sorted().Err(); err != nil {
		return nil, err
	}
	s.signer, err = openSigner(c)
	return s, err
}

// deliveryProblems finds targets that hand a secret out which only a proxy may hold.
func (s *settings) deliveryProblems() strictyaml.Problems {
	static := map[string]bool{}
	for _, i := range s.config.Issuers {
		static[i.Name] = i.Driver == staticDriver
	}
	var problems strictyaml.Problems
	for i, t := range s.config.Targets {
		if target, ok := s.config.Policy.Target(t.Name); ok && target.Deliver == "direct" && static[t.Credential.Issuer] {
			problems = append(problems, s.config.At.Problem(strictyaml.Index("targets", i),
				fmt.Sprintf("delivers the static secret of issuer %q to the caller, who would keep it for ever", t.Credential.Issuer),
				"set http, so that a proxy spends it"))
		}
	}
	return problems
}
