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
		t := &appTokens{issuer: j.Issuer, own: w.own, held: map[string]*appToken{}}
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
	own    ownMinter

	mu   sync.Mutex // owns held
	held map[string]*appToken
}

// appToken is the token of one repository.
type appToken struct {
	mu    sync.Mutex // held while one is minted; owns what follows
	own   broker.Own
	until time.Time // when it is replaced
}

// appTokenLife is how long one of them is used, and maxAppTokens how many are held. GitHub lets each live
// for an hour; appTokenEnd leaves it a minute for its clock and its answer.
const (
	appTokenLife = 10 * time.Minute
	appTokenEnd  = time.Hour + time.Minute
	maxAppTokens = 1024
)

// token returns one for a repository, "owner/name". The one that it replaces is ended: a request that is
// still under way with it fails at worst, and the job is asked for again at the next turn. That of a
// repository which nobody asks for any more ends when the broker stops, or by itself within the hour.
func (t *appTokens) token(ctx context.Context, repository string) (cred.Secret, error) {
	a := t.at(repository)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if now.Before(a.until) {
		return a.own.Fields["token"], nil
	}
	owner, name, _ := strings.Cut(repository, "/")
	fresh, err := t.own.MintOwn(ctx, "job watcher of "+repository, cred.CredentialSource{
		Issuer: t.issuer, Type: cred.Bearer, Params: map[string]string{"owner": owner, "repositories": name, "permissions": "actions:read"},
	}, now.Add(appTokenEnd))
	if err != nil {
		return cred.Secret{}, err
	}
	old := a.own
	a.own, a.until = fresh, now.Add(appTokenLife)
	t.own.EndOwn(ctx, old)
	return fresh.Fields["token"], nil
}

// at returns the place of a repository's token.
func (t *appTokens) at(repository string) *appToken {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.held[repository]
	if a == nil {
		if len(t.held) >= maxAppTokens {
			clear(t.held)
		}
		a = &appToken{}
		t.held[repository] = a
	}
	return a
}
