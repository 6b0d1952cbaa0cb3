package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// openLog opens the proxy's own log, records what the last run left open, and the start.
func openLog(ctx context.Context, c *config) (*boltlog.Log, error) {
	signer, err := openSigner(c)
	if err != nil {
		return nil, err
	}
	log, err := boltlog.Open(c.path(c.Log.Path), signer, boltlog.Options{})
	if err != nil {
		return nil, err
	}
	if err := recordStart(ctx, c.Name, log); err != nil {
		log.Close()
		return nil, err
	}
	return log, nil
}

// openSigner reads the log's key, or makes it at the first start. The origin tells one log file of a
// proxy from the next, so that a lost file can't pass for the old one.
func openSigner(c *config) (*audit.Signer, error) {
	signer, err := readSigner(c)
	if err == nil {
		return signer, checkNotLost(c)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	signer, err = audit.GenerateSigner(audit.ProxyOrigin(c.Name) + strings.ToLower(rand.Text()[:12]))
	if err != nil {
		return nil, err
	}
	return signer, keyfile.Create(c.path(c.Log.SigningKey), signer.Encode())
}

// checkNotLost refuses a key whose log is gone: a new log under the old name would pass for the old
// one, and the broker would take its first entries for some that it has.
func checkNotLost(c *config) error {
	path := c.path(c.Log.Path)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return nil // what else may be wrong with it, opening it tells
	}
	return &cred.Error{
		Kind: cred.Invalid, Op: "proxy.log", Reason: "LOG_LOST",
		Public: fmt.Sprintf("the log %s is gone and its key %s is not; restore the log, or move the key away to begin a new log under a new name", path, c.path(c.Log.SigningKey)),
	}
}

func readSigner(c *config) (*audit.Signer, error) {
	key, err := keyfile.Read(c.path(c.Log.SigningKey))
	if err != nil {
		return nil, err
	}
	return audit.ParseSigner(key)
}

// recordStart writes an entry for each use that the last run began and did not live to end.
func recordStart(ctx context.Context, name string, log *boltlog.Log) error {
	open, err := openUses(ctx, log)
	if err != nil {
		return err
	}
	now := time.Now()
	events := make([]audit.Event, 0, len(open)+1)
	for _, e := range open {
		events = append(events, audit.Event{Kind: audit.UseLost, Time: now, Grant: e.Grant, Principal: e.Principal, Use: e.Use})
	}
	events = append(events, audit.Event{Kind: audit.ProxyStarted, Time: now, Detail: map[string]any{"proxy": name, "lost_uses": len(open)}})
	for part := range slices.Chunk(events, 256) {
		if _, err := log.Append(ctx, part...); err != nil {
			return err
		}
	}
	return nil
}

// lookBack is how many entries openUses reads at a time, from the end backwards.
const lookBack = 4096

// openUses finds the uses since the last start that have a beginning and no end.
func openUses(ctx context.Context, log *boltlog.Log) ([]audit.Event, error) {
	size, err := log.Size()
	if err != nil {
		return nil, err
	}
	ended := map[cred.UseID]bool{}
	var open []audit.Event
	for end := size; end > 0; {
		begin := max(end, lookBack) - lookBack
		events, err := readEvents(ctx, log, begin, end)
		if err != nil {
			return nil, err
		}
		for _, e := range slices.Backward(events) {
			switch {
			case e.Kind == audit.ProxyStarted:
				return open, nil
			case e.Use == nil:
			case e.Kind == audit.UseBegin && !ended[e.Use.ID]:
				open = append(open, e)
			case e.Kind != audit.UseBegin:
				ended[e.Use.ID] = true
			}
		}
		end = begin
	}
	return open, nil
}

func readEvents(ctx context.Context, log *boltlog.Log, from, to uint64) ([]audit.Event, error) {
	events := make([]audit.Event, 0, to-from)
	for e, err := range log.Entries(ctx, from, to) {
		if err != nil {
			return nil, err
		}
		_, event, err := audit.Parse(e.Canonical)
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	return events, nil
}

// Shipping: how often, and how much at a time.
const (
	shipInterval = 500 * time.Millisecond
	shipEntries  = 1000
	shipBytes    = 4 << 20
)

// ship copies the log to the broker as it grows.
func ship(ctx context.Context, logger *slog.Logger, log *boltlog.Log, to *sdk.ProxyClient) {
	tick := time.NewTicker(shipInterval)
	defer tick.Stop()
	s := shipper{log: log, to: to}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.catchUp(ctx, logger)
		}
	}
}

// shipAll copies what is left, once.
func shipAll(ctx context.Context, logger *slog.Logger, log *boltlog.Log, to *sdk.ProxyClient) {
	s := shipper{log: log, to: to}
	s.catchUp(ctx, logger)
}

// shipper knows how far the broker is; its zero cursor makes the broker say so.
type shipper struct {
	log    *boltlog.Log
	to     *sdk.ProxyClient
	next   uint64
	silent bool // the last try failed, and that was said
}

func (s *shipper) catchUp(ctx context.Context, logger *slog.Logger) {
	for {
		entries, err := s.read(ctx)
		if err == nil && len(entries) == 0 {
			return
		}
		if err == nil {
			s.next, err = s.to.ShipUses(ctx, s.log.Signer().Origin(), entries)
		}
		if err != nil {
			if !s.silent && ctx.Err() == nil {
				logger.Warn("entries can't be copied to the broker now; they stay in the proxy's own log", "error", cred.PublicText(err))
			}
			s.silent = true
			return
		}
		s.silent = false
	}
}

func (s *shipper) read(ctx context.Context) ([]sdk.ShippedEntry, error) {
	size, err := s.log.Size()
	if err != nil {
		return nil, err
	}
	var out []sdk.ShippedEntry
	total := 0
	for e, err := range s.log.Entries(ctx, s.next, min(size, s.next+shipEntries)) {
		if err != nil {
			return nil, err
		}
		if total += len(e.Canonical); total > shipBytes && len(out) > 0 {
			break
		}
		out = append(out, sdk.ShippedEntry{Seq: e.Seq, Canonical: e.Canonical})
	}
	return out, nil
}
