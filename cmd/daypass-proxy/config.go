package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// config is proxy.yaml. Paths are relative to the file's own folder.
type config struct {
	// The proxy's name: what its client certificate says and what the log shows.
	Name string `yaml:"name,required"`
	// Where to listen, e.g. `127.0.0.1:8080`.
	Listen string `yaml:"listen,required"`
	// The URL that callers use, of scheme and host alone; DPoP proofs must be for it. The address that
	// a caller connects to where absent.
	URL string `yaml:"url"`
	// Ask for a nonce in DPoP proofs, so that none is good at another process, nor after a restart.
	DPoPNonce bool `yaml:"dpop_nonce"`
	// The certificate to serve with. Without one the proxy listens on loopback addresses alone.
	TLS serverTLS `yaml:"tls"`
	// The broker that grants and revokes.
	Broker brokerConfig `yaml:"broker"`
	// The proxy's own audit log.
	Log logConfig `yaml:"log"`
	// The targets that this proxy serves: names, or patterns in which `*` stands for any characters;
	// all that the broker lets it redeem where the list is absent.
	Targets []string `yaml:"targets"`
	// How long the proxy goes on without word from the broker's revocation stream. After that it
	// refuses everything, since a revocation may have been missed. The default is 30s.
	MaxStale time.Duration `yaml:"max_stale"`
	// PEM file of further CAs that upstreams' certificates may be from.
	UpstreamCAFile string `yaml:"upstream_ca_file"`

	dir string // of the file
}

type serverTLS struct {
	// PEM file of the certificate chain.
	Certificate string `yaml:"certificate"`
	// PEM file of its private key.
	PrivateKey string `yaml:"private_key"`
}

type brokerConfig struct {
	// The broker's URL, https.
	URL string `yaml:"url,required"`
	// The issuer in grant tokens, where it is another than the URL.
	Issuer string `yaml:"issuer"`
	// PEM file of the CA that the broker's certificate is from; the system's where absent.
	CAFile string `yaml:"ca_file"`
	// PEM file of the proxy's client certificate.
	Certificate string `yaml:"certificate,required"`
	// PEM file of its private key.
	PrivateKey string `yaml:"private_key,required"`
}

type logConfig struct {
	// The log's file.
	Path string `yaml:"path,required"`
	// The key that signs its checkpoints; made at the first start, with mode 0600.
	SigningKey string `yaml:"signing_key,required"`
}

// loadConfig reads proxy.yaml and names every problem.
func loadConfig(file string) (*config, error) {
	node, problems := strictyaml.ReadFile(file)
	if node.Kind() == strictyaml.Null && len(problems) > 0 {
		return nil, problems.Err()
	}
	c := &config{dir: filepath.Dir(file)}
	problems = problems.Merge(node.Decode(c))
	if err := problems.Merge(c.problems(node)).Sorted().Err(); err != nil {
		return nil, err
	}
	if c.Broker.Issuer == "" {
		c.Broker.Issuer = c.Broker.URL
	}
	return c, nil
}

// path resolves a path of the file.
func (c *config) path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

// serves reports whether a target is one of ours.
func (c *config) serves(target string) bool {
	if len(c.Targets) == 0 {
		return true
	}
	return slices.ContainsFunc(c.Targets, func(pattern string) bool { return glob.Pattern(pattern).Match(target) })
}

// brokerTLS is the proxy's identity toward the broker.
func (c *config) brokerTLS() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.path(c.Broker.Certificate), c.path(c.Broker.PrivateKey))
	if err != nil {
		return nil, fmt.Errorf("the proxy's client certificate can't be loaded: %w", err)
	}
	if uri := "daypass://proxy/" + c.Name; !slices.ContainsFunc(pair.Leaf.URIs, func(u *url.URL) bool { return u.String() == uri }) {
		return nil, fmt.Errorf("the client certificate %s is not this proxy's: it lacks the URI %s", c.path(c.Broker.Certificate), uri)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}
	if c.Broker.CAFile != "" {
		if out.RootCAs, err = readPool(c.path(c.Broker.CAFile), x509.NewCertPool()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// listenTLS is what the proxy serves with; nil for plain text on loopback.
func (c *config) listenTLS() (*tls.Config, error) {
	if c.TLS.Certificate == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.path(c.TLS.Certificate), c.path(c.TLS.PrivateKey))
	if err != nil {
		return nil, fmt.Errorf("the certificate to serve with can't be loaded: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, nil
}

// upstreamRoots are the system's CAs and the configured ones; nil means the system's alone.
func (c *config) upstreamRoots() (*x509.CertPool, error) {
	if c.UpstreamCAFile == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's CAs can't be loaded: %w", err)
	}
	return readPool(c.path(c.UpstreamCAFile), pool)
}

func readPool(file string, pool *x509.CertPool) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return pool, nil
}
