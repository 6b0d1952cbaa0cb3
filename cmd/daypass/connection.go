package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/internal/cli"
)

// connection is how every command reaches the broker.
type connection struct {
	broker      string
	caFile      string
	idTokenFile string
	audience    string
}

func (c *connection) addFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&c.broker, "broker", os.Getenv("DAYPASS_BROKER"), "the broker's URL (or DAYPASS_BROKER)")
	f.StringVar(&c.caFile, "ca-file", os.Getenv("DAYPASS_CA_FILE"), "PEM file of the CA that the broker's certificate is from (or DAYPASS_CA_FILE); the system's where empty")
	f.StringVar(&c.idTokenFile, "id-token-file", "", "file with the ID token, or - for standard input")
	f.StringVar(&c.audience, "audience", os.Getenv("DAYPASS_AUDIENCE"), "audience to ask the CI's token service for (or DAYPASS_AUDIENCE); the broker's URL where empty")
}

// client connects with the caller's own ID token.
func (c *connection) client(cmd *cobra.Command) (*sdk.Client, error) {
	return c.clientAs(c.idTokens(cmd.InOrStdin()))
}

// clientAs connects with tokens from anywhere.
func (c *connection) clientAs(tokens sdk.TokenSource) (*sdk.Client, error) {
	if c.broker == "" {
		return nil, cli.HintedError{Err: cli.Usagef("no broker is named"), Hint: "give --broker URL, or set DAYPASS_BROKER"}
	}
	tlsConfig, err := c.tls()
	if err != nil {
		return nil, err
	}
	return sdk.Dial(c.broker, tokens, tlsConfig)
}

func (c *connection) tls() (*tls.Config, error) {
	if c.caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.caFile)
	if err != nil {
		return nil, fmt.Errorf("the CA file can't be read: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", c.caFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}
