package main

import (
	"context"
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

	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/broker"
	"github.com/daypass-io/daypass/broker/config"
	"github.com/daypass-io/daypass/broker/identity"
	"github.com/daypass-io/daypass/broker/notice"
	"github.com/daypass-io/daypass/broker/rpc"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/store"
	"github.com/daypass-io/daypass/store/bolt"
)

// drainTimeout bounds how long calls that run may go on after the first signal.
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
	r, err := open(ctx, s, logger)
	if err != nil {
		return err
	}
	defer r.close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server, err := rpc.New(r.broker, rpc.Options{
		TLS: r.trust.config(), ClientCAs: r.trust.proxies.Load, SawProxy: r.trust.saw, Login: logins(s.config), Handlers: r.channels.clicks(r.broker, logger),
		Reflection: s.config.Server.Reflection, Logger: logger, Metrics: registry,
	})
	if err != nil {
		return err
	}
	listener, err := cli.Listen(ctx, s.config.Server.Listen)
	if err != nil {
		return err
	}
	logger.Info("serving", "address", listener.Addr().String(), "url", s.config.Server.URL,
		"tls", !s.config.Server.Plain, "policy", s.config.Policy.Hash(), "log_key", r.log.VerifierKey())
	if ready != nil {
		ready(listener.Addr().String())
	}
	background := []func(context.Context) error{
		r.broker.Run, r.dispatcher.Run, newReloader(path, s, r.broker, r.issuers, logger).run,
		// Vault may fetch our keys to check who we are, so this comes when we serve.
		func(ctx context.Context) error { checkIssuers(ctx, logger, r.issuers); return nil },
	}
	return runAll(ctx, logger, background, r.broker.HoldRotations, server, listener)
}

// runAll serves, and does what goes on in the background, until ctx ends, then finishes what runs. hold is
// called when that begins.
func runAll(ctx context.Context, logger *slog.Logger, background []func(context.Context) error, hold func(), server *rpc.Server, l net.Listener) error {
	backCtx, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()
	var back errgroup.Group
	for _, run := range background {
		back.Go(func() error { return run(backCtx) })
	}
	serving, ended := errgroup.WithContext(ctx)
	serving.Go(func() error { return server.Serve(l) })
	serving.Go(func() error {
		<-ended.Done()
		logger.Info("stopping: finishing what runs; a second signal stops at once")
		hold()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			return errors.Join(fmt.Errorf("calls still ran after %s and were cut off", drainTimeout), server.Close())
		}
		return nil
	})
	err := serving.Wait()
	stopBack()
	return errors.Join(err, back.Wait())
}

// running is a broker and what it works with.
type running struct {
	broker     *broker.Broker
	issuers    map[string]issuer.Issuer
	channels   channels
	dispatcher *notice.Dispatcher
	trust      *trust
	log        *boltlog.Log
	close      func()
}

// open opens the store and makes the broker and what it works with.
func open(ctx context.Context, s *settings, logger *slog.Logger) (*running, error) {
	c := s.config
	if err := os.MkdirAll(filepath.Dir(c.Store.Path), 0o700); err != nil {
		return nil, err
	}
	raw, err := bolt.Open(c.Store.Path, s.signer, bolt.Options{})
	if err != nil {
		return nil, err
	}
	r, err := assemble(ctx, s, raw, logger)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	closeIssuers := r.close
	r.close = func() { closeIssuers(); _ = raw.Close() }
	return r, nil
}

// assemble makes a broker over a store; close then closes its issuers.
func assemble(ctx context.Context, s *settings, raw *bolt.Store, logger *slog.Logger) (*running, error) {
	c := s.config
	sealed := store.Sealed(raw, s.sealing)
	who, err := identity.New(c.Providers(), time.Now)
	if err != nil {
		return nil, err
	}
	out, err := openChannels(c)
	if err != nil {
		return nil, err
	}
	keys, err := broker.OpenKeys(ctx, sealed, c.Tokens.Algorithm, time.Now())
	if err != nil {
		return nil, err
	}
	shown, err := loadTrust(c.Server)
	if err != nil {
		return nil, err
	}
	live := token.NewLive(keys)
	issuers, closeIssuers, err := s.openIssuers(live)
	if err != nil {
		return nil, err
	}
	b, err := s.newBroker(ctx, broker.Config{
		URL: c.Server.URL, Store: sealed, Log: raw.Log(), Identity: who, Policy: c.Policy, Keys: live,
		Issuers: issuers, Logger: logger, Now: time.Now, MayRedeem: mayRedeem(c), Notify: notifier(c, out),
		IssueTimeout: c.Issuing.Timeout, RotateTimeout: c.Issuing.RotationTimeout, ReconcileInterval: c.Issuing.Reconcile, JobsInterval: c.Issuing.Jobs,
	}, workshop{keys: live, find: func(name string) issuer.Issuer { return issuers[name] }, store: sealed, log: raw.Log(), trust: shown})
	if err != nil {
		closeIssuers()
		return nil, err
	}
	return &running{
		broker: b, issuers: issuers, channels: out, close: closeIssuers, trust: shown, log: raw.Log(),
		dispatcher: notice.NewDispatcher(sealed, out.senders, logger, time.Now),
	}, nil
}

// newBroker makes the broker, with what it takes issuers to make.
func (s *settings) newBroker(ctx context.Context, c broker.Config, w workshop) (*broker.Broker, error) {
	var made struct{ *broker.Broker } // what mints with it does so once the broker runs
	w.own = &made
	var err error
	if c.Jobs, err = s.jobsWatcher(w); err != nil {
		return nil, err
	}
	if c.Roots, err = s.openRoots(w); err != nil {
		return nil, err
	}
	c.Sign = func(text string) (string, error) { return w.log.Signer().Receipt(text) }
	made.Broker, err = broker.New(ctx, c)
	return made.Broker, err
}

func mayRedeem(c *config.Config) func(proxy, target string) bool {
	return func(name, target string) bool {
		p, ok := c.Proxy(name)
		return ok && p.MayRedeem(target)
	}
}

// logins are the identity providers that people sign in with.
func logins(c *config.Config) []rpc.Login {
	var all []rpc.Login
	for i, p := range c.IdentityProviders {
		if p.Login != nil {
			all = append(all, rpc.Login{Provider: p.Name, Issuer: c.Providers()[i].Issuer, ClientID: p.Login.ClientID, Scopes: p.Login.Scopes})
		}
	}
	return all
}
