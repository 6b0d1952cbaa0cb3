package oauth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

const opConfig = "oauth.config"

// defaultTimeout bounds one request.
const defaultTimeout = 10 * time.Second

// The kinds of token that are exchanged: RFC 8693, section 3.
const (
	typeJWT          = "urn:ietf:params:oauth:token-type:jwt"
	typeRefreshToken = "urn:ietf:params:oauth:token-type:refresh_token" //nolint:gosec // G101: the name of a kind of token
)

// reserved are the parameters that no configuration may set by itself.
var reserved = []string{
	"grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "refresh_token",
	"subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type", "assertion", "token", "token_type_hint",
}

func (cfg *Config) setDefaults() {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Client.Method == "" {
		cfg.Client.Method = None
	}
	if cfg.Client.Audience == "" {
		cfg.Client.Audience = cfg.TokenURL
	}
	if cfg.Audience == "" {
		cfg.Audience = cfg.TokenURL
	}
	if cfg.SubjectType == "" {
		cfg.SubjectType = typeJWT
	}
}

func (cfg *Config) check() error {
	if err := tokenapi.CheckURL(opConfig, "token_url", cfg.TokenURL, cfg.AllowPlain); err != nil {
		return err
	}
	if cfg.RevocationURL != "" {
		if err := tokenapi.CheckURL(opConfig, "revocation_url", cfg.RevocationURL, cfg.AllowPlain); err != nil {
			return err
		}
		if cfg.Seal == nil {
			return invalidConfig("tokens that can be revoked need a key that seals them", "no Sealer")
		}
	}
	if err := cfg.checkGrant(); err != nil {
		return err
	}
	for name := range cfg.Extra {
		if slices.Contains(reserved, name) {
			return invalidConfig(fmt.Sprintf("the parameter %s is set by daypass itself and can't be an extra one", name), "reserved parameter")
		}
	}
	for name := range cfg.Header {
		switch http.CanonicalHeaderKey(name) {
		case "Authorization", "Cookie", "Content-Type", "Accept", "Host":
			return invalidConfig(fmt.Sprintf("the header %s is set by daypass itself and can't be a further one", name), "reserved header")
		}
	}
	if cfg.Timeout < 0 || cfg.Life < 0 {
		return invalidConfig("the timeout and the tokens' life can't be negative", "negative duration")
	}
	return cfg.Client.check()
}

func (cfg *Config) checkGrant() error {
	switch cfg.Grant {
	case ClientCredentials:
		if cfg.Client.Method == None {
			return invalidConfig("client_credentials needs a client that authenticates: client_secret_basic, client_secret_post or private_key_jwt", "no client authentication")
		}
	case RefreshToken:
		if cfg.Keeper == nil {
			return invalidConfig("the refresh grant needs a file that holds the refresh token", "no Keeper")
		}
	case TokenExchange, JWTBearer:
		if cfg.Subject == nil {
			return invalidConfig("this grant needs an ID token to show", "no Subject")
		}
	default:
		return invalidConfig("the grant must be one of client_credentials, refresh, token_exchange and jwt_bearer", "unknown grant")
	}
	return nil
}

func (c *Client) check() error {
	switch c.Method {
	case None:
		return nil
	case ClientSecretBasic, ClientSecretPost:
		if c.ID == "" || c.Secret == nil {
			return invalidConfig("a client that authenticates with a secret needs a client ID and a secret", "no client ID or secret")
		}
	case PrivateKeyJWT:
		ways := 0
		for _, given := range []bool{c.Key != nil, c.Transit != nil, c.Assertion != nil} {
			if given {
				ways++
			}
		}
		if c.ID == "" || ways != 1 {
			return invalidConfig("private_key_jwt needs a client ID, and one of: a key, a key in Vault, the broker's own ID token", "not exactly one of key, transit and assertion")
		}
		if c.Key != nil {
			_, err := signingMethod(c.Key)
			return err
		}
	default:
		return invalidConfig("the client's method must be one of none, client_secret_basic, client_secret_post and private_key_jwt", "unknown method")
	}
	return nil
}

func invalidConfig(public, private string) error {
	return &cred.Error{Kind: cred.Invalid, Op: opConfig, Public: public, Err: errors.New("oauth: " + private)}
}
