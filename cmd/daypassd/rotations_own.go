package main

import (
	"context"
	"crypto/x509"
	"path/filepath"
	"strings"
	"time"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/ownkeys"
	"github.com/daypass-io/daypass/internal/strictyaml"
	"github.com/daypass-io/daypass/issuer"
)

// signingKeysSection is the ring of keys that sign grant tokens; docs/rotation/own-keys.md says what each
// key of these sections means.
type signingKeysSection struct {
	Longest time.Duration `yaml:"longest"`
	Caches  time.Duration `yaml:"caches"`
}

func (*signingKeysSection) of() string { return "" }

func (*signingKeysSection) problems(*settings, *strictyaml.Node) strictyaml.Problems { return nil }

func (v *signingKeysSection) open(s *settings, w workshop) (issuer.Rotator, error) {
	return ownkeys.NewSigningKeys(ownkeys.SigningConfig{
		Store: w.store, Record: broker.KeysRecord(), Keys: w.keys, URL: s.config.Server.URL, Now: time.Now, Longest: v.Longest, Caches: v.Caches,
	})
}

// sealingKeySection is the key that seals the store.
type sealingKeySection struct {
	Settle time.Duration `yaml:"settle"`
}

func (*sealingKeySection) of() string { return "" }

func (*sealingKeySection) problems(*settings, *strictyaml.Node) strictyaml.Problems { return nil }

func (v *sealingKeySection) open(s *settings, w workshop) (issuer.Rotator, error) {
	var sealers []string // issuers that seal what their handles hold
	for _, i := range s.config.Issuers {
		if i.Driver == githubDriver || i.Driver == oauthDriver {
			sealers = append(sealers, i.Name)
		}
	}
	return ownkeys.NewSealingKey(ownkeys.SealingConfig{
		Store: w.store, Key: s.sealing, Now: time.Now, Settle: v.Settle, Nested: ownkeys.OpenLeases(w.store, sealers...),
	})
}

// logKeySection is the key that signs the log's checkpoints.
type logKeySection struct{}

func (*logKeySection) of() string { return "" }

func (*logKeySection) problems(*settings, *strictyaml.Node) strictyaml.Problems { return nil }

func (*logKeySection) open(s *settings, w workshop) (issuer.Rotator, error) {
	return ownkeys.NewLogKey(ownkeys.LogConfig{Log: w.log, File: s.config.Audit.SigningKey, Now: time.Now})
}

// proxyCASection is the CA that vouches for the broker and for proxies.
type proxyCASection struct {
	Bundle string        `yaml:"bundle"`
	Key    string        `yaml:"key"`
	Spread time.Duration `yaml:"spread"`
}

func (*proxyCASection) of() string { return "" }

func (v *proxyCASection) problems(s *settings, at *strictyaml.Node) strictyaml.Problems {
	if s.config.Server.TLS.ClientCA == "" {
		return strictyaml.Problems{at.Problem("", "needs server.tls.client_ca", "")}
	}
	return nil
}

func (v *proxyCASection) open(s *settings, w workshop) (issuer.Rotator, error) {
	c := ownkeys.CAConfig{
		Bundle: s.path(v.Bundle), Key: s.path(v.Key), ClientCA: s.config.Server.TLS.ClientCA, ServerCert: s.config.Server.TLS.Certificate,
		Spread: v.Spread, Now: time.Now,
		Reload: func(context.Context) error { return w.trust.load() },
		Served: func(context.Context) (*x509.Certificate, error) { return w.trust.served() },
	}
	if c.Bundle == "" {
		c.Bundle = s.config.Server.TLS.ClientCA
	}
	if c.Key == "" {
		c.Key = strings.TrimSuffix(c.Bundle, filepath.Ext(c.Bundle)) + ".key" // as init writes it
	}
	for _, p := range s.config.Proxies {
		c.Proxies = append(c.Proxies, p.Name)
	}
	c.Seen = func(context.Context) ([]ownkeys.SeenProxy, error) {
		return w.trust.seenLately(time.Now(), c.Proxies), nil
	}
	return ownkeys.NewProxyCA(c)
}
