package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/keyfile"
	"github.com/daypass-io/daypass/internal/pki"
	"github.com/daypass-io/daypass/store"

	_ "embed"
)

// initOptions are what init writes into the files that it makes.
type initOptions struct {
	URL         string // of the broker
	Listen      string
	Proxy       string // the first proxy's name
	ProxyListen string
}

func newInit() *cobra.Command {
	var o initOptions
	var output string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a folder with keys, certificates and configuration files to start from",
		Long: `init makes DIR with everything that a broker and one proxy need to start:

  daypass.yaml, proxy.yaml   configuration, to be filled in
  keys/                      the key that seals the store, the key that signs the log
  pki/                       a CA, the broker's certificate, the proxy's certificate
  data/                      where the store and the proxy's log will be

Nothing that exists is written over.`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			signer, err := initialize(args[0], o)
			if err != nil {
				return err
			}
			if output == cli.JSON {
				return cli.WriteJSON(cmd.OutOrStdout(), map[string]string{"dir": args[0], "log_key": signer.VerifierKey(), "log_origin": signer.Origin()})
			}
			fmt.Fprintf(cmd.OutOrStdout(), initDone, args[0], signer.VerifierKey())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.URL, "url", "https://127.0.0.1:8443", "the URL under which callers reach the broker")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:8443", "the address that the broker listens on")
	f.StringVar(&o.Proxy, "proxy", "edge-1", "the first proxy's name")
	f.StringVar(&o.ProxyListen, "proxy-listen", "127.0.0.1:8080", "the address that the proxy listens on")
	cli.AddOutput(cmd, &output)
	return cmd
}

const initDone = `made %[1]s

Keep the log's verifier key where the broker's operators can't change it; it is what
'daypass audit verify --key' takes:

  %[2]s

Next: name your identity provider, an issuer, a target and a rule in
%[1]s/daypass.yaml, then

  daypassd check --config %[1]s/daypass.yaml
  daypassd serve --config %[1]s/daypass.yaml
  daypass-proxy serve --config %[1]s/proxy.yaml

Before you rely on it, move keys/ to another disk than data/: whoever copies both can
read the store. Keep pki/ca.key, which certifies further proxies, off this machine.
`

//go:embed daypass.yaml.tmpl
var brokerTemplate string

//go:embed proxy.yaml.tmpl
var proxyTemplate string

// check refuses what would not do in the files, and returns the broker's URL.
func (o initOptions) check() (*url.URL, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Hostname() == "" || *u != (url.URL{Scheme: "https", Host: u.Host}) {
		return nil, cli.Usagef("--url must be of the form https://HOST[:PORT], not %q", o.URL)
	}
	if !policy.ValidName(o.Proxy) {
		return nil, cli.Usagef("--proxy %q is not a name: %s", o.Proxy, policy.NameRule)
	}
	for flag, address := range map[string]string{"--listen": o.Listen, "--proxy-listen": o.ProxyListen} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, cli.Usagef("%s must be HOST:PORT, not %q", flag, address)
		}
	}
	return u, nil
}

// initialize makes a folder to start from and returns the log's signer.
func initialize(dir string, o initOptions) (*audit.Signer, error) {
	u, err := o.check()
	if err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty; init writes over nothing, so name a new folder", dir)
	}
	for _, sub := range []string{"keys", "pki", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	signer, err := audit.GenerateSigner(u.Host + "/log")
	if err != nil {
		return nil, err
	}
	if err := keyfile.Create(filepath.Join(dir, "keys", "log.key"), signer.Encode()); err != nil {
		return nil, err
	}
	if _, err := store.WriteSealingKey(filepath.Join(dir, "keys", "sealing.key")); err != nil {
		return nil, err
	}
	return signer, errors.Join(
		initPKI(filepath.Join(dir, "pki"), u.Hostname(), o.Proxy),
		render(filepath.Join(dir, "daypass.yaml"), brokerTemplate, o),
		render(filepath.Join(dir, "proxy.yaml"), proxyTemplate, o),
	)
}

func initPKI(dir, host, proxy string) error {
	now := time.Now()
	ca, err := pki.NewAuthority("daypass CA", now)
	if err != nil {
		return err
	}
	hosts := []string{host}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		hosts = []string{"localhost", "127.0.0.1", "::1"}
	}
	server, serverErr := ca.Server(hosts, now)
	edge, edgeErr := ca.Proxy(proxy, now)
	if err := errors.Join(serverErr, edgeErr); err != nil {
		return err
	}
	save := func(name string, p *pki.KeyPair) error {
		return p.Save(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
	}
	return errors.Join(save("ca", &ca.KeyPair), save("server", server), save("proxy-"+proxy, edge))
}

func render(path, text string, o initOptions) error {
	t, err := template.New("config").Option("missingkey=error").Parse(text)
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := t.Execute(&b, o); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
