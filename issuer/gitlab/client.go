package gitlab

import (
	"net/http"
	"strings"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/outbound"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

// maxAnswer bounds what is read of one answer: a page of 100 tokens takes some 50 KiB.
const maxAnswer = 4 << 20

// newAPI checks the address and fills in what was left out.
func newAPI(cfg *Config) (*tokenapi.API, error) {
	if cfg.BaseURL == "" {
		cfg.BaseURL = defaultBaseURL
	}
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if !outbound.Usable(cfg.BaseURL, cfg.AllowPlain) {
		return nil, invalidConfig("GitLab's address must be an https URL such as https://gitlab.example.com/api/v4, without a query", nil)
	}
	h, err := outbound.Client(cfg.CAFile)
	if err != nil {
		return nil, invalidConfig("the file with GitLab's CA certificates can't be used", err)
	}
	return &tokenapi.API{
		Client: tokenapi.Client{HTTP: h, Timeout: cfg.Timeout, MaxAnswer: maxAnswer},
		Base:   cfg.BaseURL, Dress: dress, Refusal: readRefusal,
	}, nil
}

func dress(h http.Header, token cred.Secret) { h.Set("PRIVATE-TOKEN", token.RevealString()) }
