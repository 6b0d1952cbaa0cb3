package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/cli"
)

// connection is how every command reaches the broker.
type connection struct {
	broker      string
	caFile      string
	idTokenFile string
	audience    string
	certificate string // PEM files of a client certificate, and of its key, that grants can be bound to
	privateKey  string
}

func (c *connection) addFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&c.broker, "broker", os.Getenv("DAYPASS_BROKER"), "the broker's URL (or DAYPASS_BROKER)")
	f.StringVar(&c.caFile, "ca-file", os.Getenv("DAYPASS_CA_FILE"), "PEM file of the CA that the broker's certificate is from (or DAYPASS_CA_FILE); the system's where empty")
	f.StringVar(&c.idTokenFile, "id-token-file", "", "file with the ID token, or - for standard input")
	f.StringVar(&c.certificate, "certificate", "", "PEM file of a client certificate, for grants that are bound to it")
	f.StringVar(&c.privateKey, "private-key", "", "PEM file of the client certificate's key")
	f.StringVar(&c.audience, "audience", os.Getenv("DAYPASS_AUDIENCE"), "audience to ask the CI's token service for (or DAYPASS_AUDIENCE); the broker's URL where empty")
}

// call is what a command does at the broker.
type call func(cmd *cobra.Command, args []string, client *sdk.Client) error

// with makes a command's RunE of a call with the caller's own ID token.
func (c *connection) with(do call) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return c.as(c.idTokens(cmd.InOrStdin()), cmd, args, do)
	}
}

// as makes a call with a token from anywhere.
func (c *connection) as(tokens sdk.TokenSource, cmd *cobra.Command, args []string, do call) error {
	if err := c.needBroker(); err != nil {
		return err
	}
	tlsConfig, err := c.tls()
	if err != nil {
		return err
	}
	client, err := sdk.Dial(c.broker, tokens, tlsConfig)
	if err != nil {
		return err
	}
	defer client.Close()
	return c.explain(do(cmd, args, client))
}

func (c *connection) needBroker() error {
	if c.broker == "" {
		return cli.HintedError{Err: cli.Usagef("no broker is named"), Hint: "give --broker URL, or set DAYPASS_BROKER"}
	}
	return nil
}

// explain adds what to look at where no broker answered: its own refusals have a reason, and gRPC's
// have none.
func (c *connection) explain(err error) error {
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != cred.Unavailable || e.Reason != "" || errors.Is(err, context.Canceled) {
		return err
	}
	return cli.HintedError{Err: err, Hint: "check --broker " + c.broker + ", and --ca-file where the broker's certificate is from a CA of your own"}
}

func (c *connection) tls() (*tls.Config, error) {
	if c.caFile == "" && c.certificate == "" && c.privateKey == "" {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.caFile != "" {
		out.RootCAs = x509.NewCertPool()
		if err := addCAs(out.RootCAs, c.caFile); err != nil {
			return nil, err
		}
	}
	if c.certificate != "" || c.privateKey != "" {
		pair, err := tls.LoadX509KeyPair(c.certificate, c.privateKey)
		if err != nil {
			return nil, fmt.Errorf("--certificate and --private-key can't be used: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

func addCAs(pool *x509.CertPool, file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("the CA file can't be read: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no PEM certificate", file)
	}
	return nil
}
