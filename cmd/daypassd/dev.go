package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/internal/cli"
	"github.com/daypass-io/daypass/internal/keyfile"

	_ "embed"
)

// devTokenLife is how long an ID token of the development issuer lasts.
const devTokenLife = time.Hour

func newDev() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a broker to try things with: own identities, own upstream, loopback alone",
		Long: `dev makes a folder as init does, and runs a broker with it whose identity provider
hands an ID token to whoever asks on this machine, and whose one target is an
upstream that gives away the credential it was sent. Never use it for anything real.`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dev(cmd.Context(), dir, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the folder to make; a temporary one, removed at the end, where not given")
	return cmd
}

func dev(ctx context.Context, dir string, stdout, stderr io.Writer) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "daypass-dev-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
	}
	world, err := newDevWorld(ctx)
	if err != nil {
		return err
	}
	config, err := world.prepare(dir)
	if err != nil {
		return errors.Join(err, world.listener.Close())
	}
	running, ended := errgroup.WithContext(ctx)
	running.Go(func() error { return world.serve(ended) })
	running.Go(func() error {
		return serve(ended, config, stderr, func(addr string) { world.explain(stdout, dir, addr) })
	})
	return running.Wait()
}

// devWorld is the outside world of a broker in development: an identity provider and an upstream.
type devWorld struct {
	listener net.Listener
	keys     *token.KeyRing
	broker   string // the broker's address, free when it was chosen
	proxy    string
}

func newDevWorld(ctx context.Context) (*devWorld, error) {
	keys, err := token.NewKeyRing(token.ES256, time.Now())
	if err != nil {
		return nil, err
	}
	w := &devWorld{keys: keys}
	var listen net.ListenConfig
	for _, addr := range []*string{&w.broker, &w.proxy} {
		l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*addr = l.Addr().String()
		defer l.Close()
	}
	w.listener, err = listen.Listen(ctx, "tcp", "127.0.0.1:0")
	return w, err
}

func (w *devWorld) url() string { return "http://" + w.listener.Addr().String() }

//go:embed dev.yaml.tmpl
var devTemplate string

// prepare makes the folder and returns the configuration's path.
func (w *devWorld) prepare(dir string) (string, error) {
	o := initOptions{URL: "https://" + w.broker, Listen: w.broker, Proxy: "edge-1", ProxyListen: w.proxy}
	if _, err := initialize(dir, o); err != nil {
		return "", err
	}
	key := cred.SecretString("dev-" + strings.ToLower(rand.Text()))
	if err := keyfile.Create(filepath.Join(dir, "keys", "upstream.key"), key); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "daypass.yaml")
	text := strings.NewReplacer("{{world}}", w.url(), "{{listen}}", w.broker, "{{url}}", o.URL).Replace(devTemplate)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

func (w *devWorld) explain(out io.Writer, dir, broker string) {
	fmt.Fprintf(out, `daypass runs for development, in %[1]s. Try, in another terminal:

  export DAYPASS_BROKER=https://%[2]s DAYPASS_CA_FILE=%[1]s/pki/ca.pem
  export DAYPASS_ID_TOKEN="$(curl -s '%[3]s/token?sub=me&groups=audit,security')"
  daypass whoami
  daypass targets

  daypass-proxy serve --config %[1]s/proxy.yaml &
  curl -H "Authorization: Bearer $(daypass exchange echo -o token)" http://%[4]s/echo/hello
  daypass audit export > log.jsonl && daypass audit verify log.jsonl

Whoever is on this machine can get any identity here. Ctrl-C ends it.
`, dir, broker, w.url(), w.proxy)
}

// serve answers as identity provider and upstream until ctx ends.
func (w *devWorld) serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", w.discovery)
	mux.HandleFunc("GET /jwks", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(w.keys.JWKS()) })
	mux.HandleFunc("GET /token", w.token)
	mux.HandleFunc("/", echo)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(w.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (w *devWorld) discovery(rw http.ResponseWriter, _ *http.Request) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(map[string]any{
		"issuer": w.url(), "jwks_uri": w.url() + "/jwks", "authorization_endpoint": w.url() + "/none", "token_endpoint": w.url() + "/token",
		"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	})
}

// token hands out an ID token for whatever subject is asked for.
func (w *devWorld) token(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	extra := map[string]any{"groups": []string{}}
	if groups := q.Get("groups"); groups != "" {
		extra["groups"] = strings.Split(groups, ",")
	}
	subject := q.Get("sub")
	if subject == "" {
		subject = "me"
	}
	tok, err := w.keys.SignIDToken(w.url(), subject, "https://"+w.broker, time.Now(), devTokenLife, extra)
	if err != nil {
		http.Error(rw, "no token could be made for that subject", http.StatusBadRequest)
		return
	}
	rw.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(rw, tok.RevealString()+"\n") //nolint:gosec // G705: plain text, and a JWT of our own
}

// echo is an upstream as bad as it can be: it answers with the credential that it was sent.
func echo(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(map[string]any{
		"method": r.Method, "path": r.URL.Path, "authorization": r.Header.Get("Authorization"),
		"note": "the upstream saw the line above; the mask is the proxy's",
	})
}
