package oauth

import "github.com/daypass-io/daypass/internal/tokenapi"

func (cfg *Config) request(op string) *tokenapi.Request {
	r := tokenapi.NewRequest(op)
	r.JSON, r.Header = cfg.JSON, cfg.Header
	return r
}
