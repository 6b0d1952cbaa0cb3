package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/cred/token/dpop"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/keyfile"
)

// proofFlags say which request a proof is for.
type proofFlags struct {
	keyFile   string
	tokenFile string
	nonce     string
	want      dpop.Want
}

func newProof() *cobra.Command {
	var p proofFlags
	cmd := &cobra.Command{
		Use:   "proof",
		Short: "Print a DPoP proof for one request",
		Long: `proof prints a DPoP proof (RFC 9449): what goes into the header DPoP of one request, to
show that you hold the key which your grant token is bound to. A proof is good for one
request to that URL with that method and that token, and for a minute.`,
		Example: `  daypass exchange copilot --dpop key.jwk -o token >token
  curl -H "Authorization: DPoP $(cat token)" -H "DPoP: $(daypass proof --dpop key.jwk \
    --url https://proxy.example.com/copilot/models --token-file token)" \
    https://proxy.example.com/copilot/models`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.print(cmd.OutOrStdout(), cmd.InOrStdin())
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.keyFile, "dpop", "", "the key file that 'daypass exchange --dpop' made")
	f.StringVar(&p.want.Method, "method", "GET", "the request's method")
	f.StringVar(&p.want.URL, "url", "", "the request's URL; its query does not count")
	f.StringVar(&p.tokenFile, "token-file", "", "file with the grant token that goes with the request, or - for standard input; none where a token is yet to be asked for")
	f.StringVar(&p.nonce, "nonce", "", "what the header DPoP-Nonce of the last answer said")
	return cmd
}

func (p *proofFlags) print(stdout io.Writer, stdin io.Reader) error {
	if p.keyFile == "" || p.want.URL == "" {
		return cli.Usagef("a proof needs a key and a URL: give --dpop FILE and --url URL")
	}
	key, err := readDPoPKey(p.keyFile)
	if err != nil {
		return err
	}
	if p.tokenFile != "" {
		tok, err := readTokenFile(p.tokenFile, stdin)
		if err != nil {
			return err
		}
		p.want.AccessToken = tok.RevealString()
	}
	proof, err := key.Sign(p.want, p.nonce, time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, proof)
	return err
}

// readDPoPKey reads a key that must be there: a proof by a new one would prove nothing.
func readDPoPKey(file string) (*dpop.Key, error) {
	encoded, err := keyfile.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.HintedError{
			Err:  fmt.Errorf("there is no key file %s", file),
			Hint: "'daypass exchange TARGET --dpop " + file + "' makes it, and a token that is bound to it",
		}
	}
	if err != nil {
		return nil, err
	}
	return dpop.ParseKey(encoded)
}
