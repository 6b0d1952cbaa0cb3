package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/rpc"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

// drainTimeout bounds how long what runs may go on after the first signal.
const drainTimeout = 30 * time.Second

// serve wires the broker and runs it until ctx ends. It calls ready, unless that is nil, with the
// address once it listens.
func serve(ctx context.Context, path string, stderr io.Writer, ready func(addr string)) error {
	s, err := loadSettings(path)
	if err != nil {
		return err
	}
	cli.TuneServer()
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	b, issuers, closeAll, err := open(ctx, s, logger)
	if err != nil {
		return err
	}
	defer closeAll()
	tlsConfig, err := serverTLS(s.config.Server)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server, err := rpc.New(b, rpc.Options{TLS: tlsConfig, Reflection: s.config.Server.Reflection, Logger: logger, Metrics: registry})
	if err != nil {
		return err
	}
	listener, err := cli.Listen(ctx, s.config.Server.Listen)
	if err != nil {
		return err
	}
	logger.Info("serving", "address", listener.Addr().String(), "url", s.config.Server.URL,
		"tls", tlsConfig != nil, "policy", s.config.Policy.Hash(), "log_key", s.signer.VerifierKey())
	if ready != nil {
		ready(listener.Addr().String())
	}
	return runAll(ctx, logger, b, issuers, server, listener)
}

// runAll serves and sweeps until ctx ends, then finishes what runs.
func runAll(ctx context.Context, logger *slog.Logger, b *broker.Broker, issuers map[string]issuer.Issuer, server *rpc.Server, l net.Listener) error {
	sweepCtx, stopSweep := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSweep()
	var sweep errgroup.Group
	sweep.Go(func() error { return b.Run(sweepCtx) })
	// Vault may fetch our keys to check who we are, so this comes when we serve.
	sweep.Go(func() error { checkIssuers(sweepCtx, logger, issuers); return nil })

	serving, ended := errgroup.WithContext(ctx)
	serving.Go(func() error { return server.Serve(l) })
	serving.Go(func() error {
		<-ended.Done()
		logger.Info("stopping: finishing what runs; a second signal stops at once")
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			return errors.Join(fmt.Errorf("calls still ran after %s and were cut off", drainTimeout), server.Close())
		}
		return nil
	})
	err := serving.Wait()
	stopSweep()
	return errors.Join(err, sweep.Wait())
}

// open opens the store and makes the broker and its issuers. What is returned last closes all of it.
func open(ctx context.Context, s *settings, logger *slog.Logger) (*broker.Broker, map[string]issuer.Issuer, func(), error) {
	c := s.config
	if err := os.MkdirAll(filepath.Dir(c.Store.Path), 0o700); err != nil {
		return nil, nil, nil, err
	}
	raw, err := bolt.Open(c.Store.Path, s.signer, bolt.Options{})
	if err != nil {
		return nil, nil, nil, err
	}
	b, issuers, closeIssuers, err := assemble(ctx, s, raw, logger)
	if err != nil {
		return nil, nil, nil, errors.Join(err, raw.Close())
	}
	return b, issuers, func() { closeIssuers(); _ = raw.Close() }, nil
}

func assemble(ctx context.Context, s *settings, raw *bolt.Store, logger *slog.Logger) (*broker.Broker, map[string]issuer.Issuer, func(), error) {
	c := s.config
	sealed := store.Sealed(raw, s.sealing)
	who, err := identity.New(c.Providers(), time.Now)
	if err != nil {
		return nil, nil, nil, err
	}
	keys, err := broker.OpenKeys(ctx, sealed, c.Tokens.Algorithm, time.Now())
	if err != nil {
		return nil, nil, nil, err
	}
	issuers, closeIssuers, err := s.openIssuers(keys)
	if err != nil {
		return nil, nil, nil, err
	}
	b, err := broker.New(ctx, broker.Config{
		URL: c.Server.URL, Store: sealed, Log: raw.Log(), Identity: who, Policy: c.Policy, Keys: keys,
		Issuers: issuers, Logger: logger, Now: time.Now, MayRedeem: mayRedeem(c), IssueTimeout: c.Issuing.Timeout,
	})
	if err != nil {
		closeIssuers()
		return nil, nil, nil, err
	}
	return b, issuers, closeIssuers, nil
}

func mayRedeem(c *config.Config) func(proxy, target string) bool {
	return func(name, target string) bool {
		p, ok := c.Proxy(name)
		return ok && p.MayRedeem(target)
	}
}

// serverTLS is what the broker serves with; nil for plain text on loopback. A client certificate is
// asked of nobody and verified where one is shown: proxies show theirs.
func serverTLS(c config.Server) (*tls.Config, error) {
	if c.Plain {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("the server's certificate can't be loaded: %w", err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}
	if c.TLS.ClientCA == "" {
		return out, nil
	}
	pem, err := os.ReadFile(c.TLS.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("the CA of the proxies can't be read: %w", err)
	}
	out.ClientCAs, out.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	if !out.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", c.TLS.ClientCA)
	}
	return out, nil
}
