package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/jwks"
	"github.com/daypass-io/daypass/proxy"
)

// drainTimeout bounds how long what runs may go on after the first signal.
const drainTimeout = 30 * time.Second

// serve wires the proxy and runs it until ctx ends.
func serve(ctx context.Context, c *config, stderr io.Writer) error {
	cli.TuneServer()
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	brokerTLS, err := c.brokerTLS()
	if err != nil {
		return err
	}
	listenTLS, err := c.listenTLS()
	if err != nil {
		return err
	}
	roots, err := c.upstreamRoots()
	if err != nil {
		return err
	}
	log, err := openLog(ctx, c)
	if err != nil {
		return err
	}
	defer log.Close()
	broker, err := sdk.DialProxy(c.Broker.URL, brokerTLS)
	if err != nil {
		return err
	}
	defer broker.Close()
	p, err := proxy.New(proxy.Config{
		Name: c.Name, Log: log, Redeemer: redeemer{broker}, Serves: c.serves, MaxStale: c.MaxStale,
		Verifier: token.NewVerifier(c.Broker.Issuer, brokerKeys(c, brokerTLS), time.Now),
	})
	if err != nil {
		return err
	}
	listener, err := cli.Listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	front := proxy.NewHTTP(p, proxy.HTTPOptions{
		RootCAs: roots, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug), URL: c.URL, Nonces: c.DPoPNonce,
	})
	logger.Info("serving", "name", c.Name, "address", listener.Addr().String(), "tls", listenTLS != nil,
		"log", log.Signer().Origin(), "log_key", log.VerifierKey())
	return runAll(ctx, logger, p, front, listener, listenTLS, broker, log)
}

// runAll runs the front end and its two connections to the broker, and ends them in order: first no
// new calls, then what runs, then the last entries to the broker.
func runAll(ctx context.Context, logger *slog.Logger, p *proxy.Proxy, front *proxy.HTTP, l net.Listener, listenTLS *tls.Config, broker *sdk.ProxyClient, log *boltlog.Log) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var links errgroup.Group
	links.Go(func() error { watch(background, logger, p, broker); return nil })
	links.Go(func() error { ship(background, logger, log, broker); return nil })

	serving, failed := errgroup.WithContext(ctx)
	serving.Go(func() error {
		if err := front.Serve(l, listenTLS); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	serving.Go(func() error {
		<-failed.Done()
		logger.Info("stopping: finishing what runs; a second signal stops at once")
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if err := errors.Join(front.Shutdown(drain), p.Close(drain)); err != nil {
			return fmt.Errorf("uses still ran after %s and were cut off", drainTimeout)
		}
		return nil
	})
	err := serving.Wait()
	stop()
	_ = links.Wait() // they return nil
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	shipAll(last, logger, log, broker)
	return err
}

// redeemer redeems at the broker.
type redeemer struct{ broker *sdk.ProxyClient }

func (r redeemer) Redeem(ctx context.Context, tok cred.Secret) (proxy.Redemption, error) {
	got, err := r.broker.Redeem(ctx, tok)
	if err != nil {
		return proxy.Redemption{}, err
	}
	h := got.Grant.GetHolder()
	return proxy.Redemption{
		Grant: cred.GrantID(got.Grant.GetId()), Lease: got.Lease,
		Holder: cred.Principal{
			Provider: h.GetProvider(), Issuer: h.GetIssuer(), Subject: h.GetSubject(), Name: h.GetName(), Kind: cred.PrincipalKind(h.GetKind()),
		},
		Target: got.Target, Credential: got.Credential, NotAfter: got.Grant.GetExpireTime().AsTime(),
	}, nil
}

// brokerKeys fetches the keys that verify grant tokens.
func brokerKeys(c *config, tlsConfig *tls.Config) *jwks.Set {
	transport := &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 5 * time.Second}
	return jwks.New(c.Broker.URL+"/jwks.json", jwks.Options{Client: &http.Client{Transport: transport}})
}

// watch keeps the revocation stream open. While it is broken the proxy's own staleness limit runs.
func watch(ctx context.Context, logger *slog.Logger, p *proxy.Proxy, broker *sdk.ProxyClient) {
	wait := backoff{first: 100 * time.Millisecond, most: 5 * time.Second}
	for ctx.Err() == nil {
		err := broker.WatchRevocations(ctx, p.Revoke, func() { p.Synced(time.Now()); wait.reset() })
		if ctx.Err() != nil {
			return
		}
		logger.Warn("the revocation stream broke; connecting again", "error", cred.PublicText(err))
		wait.sleep(ctx)
	}
}

// backoff spaces tries.
type backoff struct{ first, most, next time.Duration }

func (b *backoff) reset() { b.next = 0 }

func (b *backoff) sleep(ctx context.Context) {
	b.next = min(max(b.first, b.next*2), b.most)
	select {
	case <-ctx.Done():
	case <-time.After(b.next):
	}
}
