package github

import (
	"net/http"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

const (
	// apiVersion is one that github.com and every supported GHES know.
	apiVersion = "2022-11-28"
	// maxAnswer bounds what is read of one answer: 500 repositories take some 6 KiB each.
	maxAnswer = 8 << 20
)

func newAPI(cfg Config) (*tokenapi.API, error) {
	if !outbound.Usable(cfg.BaseURL, cfg.AllowPlain) {
		return nil, invalidConfig("the API's address must be an https URL such as https://github.example.com/api/v3, without a query", nil)
	}
	h, err := outbound.Client(cfg.CAFile)
	if err != nil {
		return nil, invalidConfig("the file with GitHub's CA certificates can't be used", err)
	}
	return &tokenapi.API{
		Client: tokenapi.Client{HTTP: h, Timeout: cfg.Timeout, MaxAnswer: maxAnswer},
		Base:   cfg.BaseURL, Dress: dress, Refusal: readRefusal,
	}, nil
}

func dress(h http.Header, token cred.Secret) {
	h.Set("Accept", "application/vnd.github+json")
	h.Set("Authorization", "Bearer "+token.RevealString())
	h.Set("X-GitHub-Api-Version", apiVersion)
}
