package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/audit/boltlog"
	"github.com/daypass-io/daypass/cred"
)

// logWriters is how many append at a time.
const logWriters = 64

// benchLog measures durable appends, against one writer who waits for each sync, and verification.
func benchLog(ctx context.Context, b *bench) ([]result, error) {
	signer, err := audit.GenerateSigner("bench.example.com/log")
	if err != nil {
		return nil, err
	}
	log, err := boltlog.Open(filepath.Join(b.dir, "log.db"), signer, boltlog.Options{})
	if err != nil {
		return nil, err
	}
	defer log.Close()
	appendOne := func(int) error {
		_, err := log.Append(ctx, useEvent())
		return err
	}
	together, alone, err := b.inTurn(
		func() (float64, error) { return perSecond(ctx, logWriters, b.round/2, appendOne) },
		func() (float64, error) { return perSecond(ctx, 1, b.round/2, appendOne) },
	)
	if err != nil {
		return nil, err
	}
	verified, err := verifySpeed(ctx, log)
	if err != nil {
		return nil, err
	}
	return []result{
		ratio(fmt.Sprintf("log: appends, %d writers", logWriters), "entries/s", together, alone, "one writer, one sync for each entry", ""),
		{Name: "log: verification", Value: verified, Unit: "entries/s"},
	}, nil
}

func useEvent() audit.Event {
	now := time.Now()
	return audit.Event{
		Kind: audit.UseEnd, Time: now, Grant: cred.NewGrantID(now),
		Principal: &audit.Principal{Provider: "github-actions", Issuer: "https://token.actions.githubusercontent.com", Subject: "repo:example-org/example-repo:ref:refs/heads/main"},
		Use: &audit.Use{
			ID: cred.NewUseID(now), Proxy: "edge-1", Protocol: "http", Method: "POST", Host: "api.example.com", Path: "/v1/chat/completions",
			Status: 200, BytesIn: 812, BytesOut: 1024, DurationMS: 12, Masked: []audit.Masked{{Detector: "credential", Count: 1}},
		},
	}
}

// verifySpeed exports the whole log into memory and verifies it.
func verifySpeed(ctx context.Context, log *boltlog.Log) (float64, error) {
	cp, err := log.Checkpoint(ctx)
	if err != nil {
		return 0, err
	}
	var file bytes.Buffer
	x, err := audit.NewExporter(&file, audit.FormatJSONL)
	if err != nil {
		return 0, err
	}
	for e, err := range log.Entries(ctx, 0, cp.Size) {
		if err != nil {
			return 0, err
		}
		if err := x.Write(e); err != nil {
			return 0, err
		}
	}
	if err := x.Close(audit.Trailer{Note: cp.Note, VerifierKey: log.VerifierKey()}); err != nil {
		return 0, err
	}
	began := time.Now()
	report, err := audit.Verify(&file, audit.VerifyOptions{VerifierKey: log.VerifierKey()})
	return float64(report.Entries) / time.Since(began).Seconds(), err
}
