package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/jobs"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
)

// jobsProblems finds what package config can't tell of how jobs are asked for.
func (s *settings) jobsProblems(c *config.Config) strictyaml.Problems {
	var problems strictyaml.Problems
	for i, p := range c.IdentityProviders {
		if p.Jobs == nil {
			continue
		}
		path := strictyaml.Index("identity_providers", i) + ".jobs"
		problems = append(problems, s.referenceProblem(c.At, path+".token", p.Jobs.Token)...)
		if p.Jobs.Issuer != "" && s.driverOf(p.Jobs.Issuer) != githubDriver {
			problems = append(problems, c.At.Problem(path+".issuer", "is not the name of an issuer with the driver github_app", ""))
		}
	}
	if _, err := s.jobsWatcher(workshop{find: func(string) issuer.Issuer { return nil }}); err != nil && len(problems) == 0 {
		problems = append(problems, c.At.Problem("identity_providers", cred.PublicText(err), ""))
	}
	return problems
}

// jobsWatcher makes what tells which jobs are over; nil where none are asked for.
func (s *settings) jobsWatcher(w workshop) (broker.Jobs, error) {
	var all []jobs.Config
	for _, p := range s.config.IdentityProviders {
		if p.Jobs == nil {
			continue
		}
		token, err := s.jobsToken(w, *p.Jobs)
		if err != nil {
			return nil, err
		}
		all = append(all, jobs.Config{
			Provider: p.Name, Kind: p.Jobs.KindFor(p.Preset), API: p.Jobs.API, AllowPlain: p.Jobs.AllowPlain, CAFile: p.Jobs.CAFile, Token: token,
		})
	}
	if len(all) == 0 {
		return nil, nil
	}
	return jobs.New(all, time.Now)
}

func (s *settings) jobsToken(w workshop, j config.Jobs) (func(context.Context, string) (cred.Secret, error), error) {
	switch {
	case j.Issuer != "":
		t := &appTokens{issuer: j.Issuer, find: w.find, held: map[string]cred.Credential{}}
		return t.token, nil
	case j.Token != "":
		load, err := s.loader(w, j.Token)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, _ string) (cred.Secret, error) { return load(ctx) }, nil
	}
	return nil, nil
}

// appTokens are a GitHub App's tokens to read the state of jobs with, one for each repository.
type appTokens struct {
	issuer string
	find   func(name string) issuer.Issuer

	mu   sync.Mutex // owns held
	held map[string]cred.Credential
}

// appTokenLife is how long one of them is used, and maxAppTokens how many are held.
const (
	appTokenLife = 10 * time.Minute
	maxAppTokens = 1024
)

// token returns one for a repository, "owner/name". None is revoked: each can read one repository's jobs
// and ends within the hour.
func (t *appTokens) token(ctx context.Context, repository string) (cred.Secret, error) {
	now := time.Now()
	t.mu.Lock()
	c, ok := t.held[repository]
	t.mu.Unlock()
	if ok && now.Before(c.NotAfter) {
		return c.Fields["token"], nil
	}
	owner, name, _ := strings.Cut(repository, "/")
	c, err := mint(ctx, t.find(t.issuer), cred.CredentialSource{
		Issuer: t.issuer, Type: cred.Bearer, Params: map[string]string{"owner": owner, "repositories": name, "permissions": "actions:read"},
	}, now.Add(appTokenLife))
	if err != nil {
		return cred.Secret{}, err
	}
	c.NotAfter = now.Add(appTokenLife)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.held) >= maxAppTokens {
		clear(t.held)
	}
	t.held[repository] = c
	return c.Fields["token"], nil
}
