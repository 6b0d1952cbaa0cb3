package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token/dpop"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/keyfile"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// exchangeFlags say how an exchange is made, beside what is asked for.
type exchangeFlags struct {
	wait        bool
	request     string
	actorFile   string
	dpopFile    string
	certificate bool
}

func (e *exchangeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&e.wait, "wait", false, "where others have to agree first, wait until they have")
	f.StringVar(&e.request, "request", "", "ID of a request that was approved, to take what was granted; ask for the same as then")
	f.StringVar(&e.actorFile, "actor-token-file", "", "file with the ID token of an agent that acts for you")
	f.StringVar(&e.dpopFile, "dpop", "", "bind the grant to the DPoP key in this file, which is made where it is not there")
	f.BoolVar(&e.certificate, "bind-certificate", false, "bind the grant to the client certificate of --certificate")
}

// exchange asks, and with --wait stays until others have agreed.
func (e *exchangeFlags) exchange(cmd *cobra.Command, client *sdk.Client, want cred.Request) (sdk.Granted, error) {
	ctx := cmd.Context()
	options, err := e.options()
	if err != nil {
		return sdk.Granted{}, err
	}
	if e.request != "" {
		options = append(options, sdk.Claiming(cred.GrantID(e.request)))
	}
	granted, err := client.Exchange(ctx, want, options...)
	if err != nil || !granted.Pending() || !e.wait {
		return granted, err
	}
	id := cred.GrantID(granted.Grant.GetId())
	if err := waitFor(ctx, cmd.ErrOrStderr(), client, id); err != nil {
		return sdk.Granted{}, err
	}
	// Asked with a fresh token: the one from before may have ended while people took their time.
	return client.Exchange(ctx, want, append(options, sdk.Claiming(id))...)
}

func (e *exchangeFlags) options() ([]sdk.ExchangeOption, error) {
	var out []sdk.ExchangeOption
	if e.actorFile != "" {
		tok, err := readTokenFile(e.actorFile, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, sdk.ActedForBy(tok))
	}
	if e.certificate {
		out = append(out, sdk.BoundToCertificate())
	}
	if e.dpopFile != "" {
		key, err := dpopKey(e.dpopFile)
		if err != nil {
			return nil, err
		}
		out = append(out, sdk.BoundByProof(func(method, url string) (string, error) {
			return key.Sign(dpop.Want{Method: method, URL: url}, "", time.Now())
		}))
	}
	return out, nil
}

// dpopKey reads a key, or makes one where there is none.
func dpopKey(file string) (*dpop.Key, error) {
	encoded, err := keyfile.Read(file)
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return dpop.ParseKey(encoded)
	}
	key, err := dpop.NewKey()
	if err != nil {
		return nil, err
	}
	if encoded, err = key.Encode(); err != nil {
		return nil, err
	}
	return key, keyfile.Create(file, encoded)
}

// waitFor tells how a request stands until it waits no more.
func waitFor(ctx context.Context, stderr io.Writer, client *sdk.Client, id cred.GrantID) error {
	began := time.Now()
	var last *pb.WaitResponse
	err := client.Wait(ctx, id, func(r *pb.WaitResponse) error {
		last = r
		g := r.GetGrant()
		switch g.GetState() {
		case string(cred.GrantPending):
			fmt.Fprintf(stderr, "request %s: waits since %s for %s; %s until %s\n",
				g.GetId(), when(g.GetCreateTime()), r.GetAsked(), agreed(r.GetApprovals()), when(g.GetExpireTime()))
		case string(cred.GrantApproved):
			fmt.Fprintf(stderr, "request %s: approved after %s\n", g.GetId(), time.Since(began).Round(time.Second))
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch state := last.GetGrant().GetState(); state {
	case string(cred.GrantApproved), string(cred.GrantActive):
		return nil
	case string(cred.GrantExpired):
		return &cred.Error{Kind: cred.Denied, Op: "wait", Reason: "REQUEST_EXPIRED", Public: "nobody decided in time, so this request has expired; ask again"}
	default:
		return &cred.Error{Kind: cred.Denied, Op: "wait", Reason: "REQUEST_DENIED", Public: "this request is " + state + ": " + last.GetGrant().GetEndReason()}
	}
}

func agreed(n int32) string {
	if n == 0 {
		return "nobody has agreed yet;"
	}
	return fmt.Sprintf("%d agreed so far;", n)
}

// showPending prints the request that waits; the exit code says the same.
func showPending(w io.Writer, output string, g *pb.Grant) error {
	switch output {
	case cli.JSON:
		if err := cli.WriteJSON(w, map[string]any{
			"request_id": g.GetId(), "state": g.GetState(), "target": g.GetTarget(), "rule": g.GetRule(), "expires_at": g.GetExpireTime().AsTime(),
		}); err != nil {
			return err
		}
	case cli.Text:
		fmt.Fprintln(w, g.GetId())
	}
	return cli.HintedError{
		Err: &cred.Error{
			Kind: cred.Pending, Op: "exchange", Reason: "REQUEST_PENDING", Rule: g.GetRule(),
			Public: fmt.Sprintf("request %s waits for the approval of others until %s", g.GetId(), when(g.GetExpireTime())),
		},
		Hint: fmt.Sprintf("'daypass exchange %s … --request %s' takes it once it is approved; --wait stays until then", g.GetTarget(), g.GetId()),
	}
}
