package config

import (
	"time"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// Config is daypass.yaml.
type Config struct {
	// Where the broker listens, and what it calls itself.
	Server Server `yaml:"server"`
	// Where the broker keeps grants and its log.
	Store Store `yaml:"store"`
	// How the log is known outside.
	Audit Audit `yaml:"audit"`
	// How grant tokens are signed.
	Tokens Tokens `yaml:"tokens"`
	// What holds for the ID tokens of all identity providers.
	Identity Identity `yaml:"identity"`
	// Whose ID tokens count.
	IdentityProviders []IdentityProvider `yaml:"identity_providers"`
	// Where credentials come from.
	Issuers []Issuer `yaml:"issuers"`
	// How issuers are called.
	Issuing Issuing `yaml:"issuing"`
	// Which root credentials are rotated, when and with whose agreement.
	Rotations []Rotation `yaml:"rotations"`
	// Which companion proxies may redeem grants.
	Proxies []Proxy `yaml:"proxies"`
	// Who is told of what waits and of what happened.
	Notices Notices `yaml:"notices"`

	policy.Source

	// Policy is the compiled rule set, not a part of the file.
	Policy *policy.Set
}

// Server says where the broker listens.
type Server struct {
	// The address to listen on.
	Listen string `yaml:"listen" default:"127.0.0.1:8443"`
	// The base URL that callers use, and the issuer (`iss`) of grant tokens. The default is made of
	// `listen` where that is a loopback address; elsewhere it must be set. It has no slash at its end.
	URL string `yaml:"url"`
	// Serve without TLS. Only on a loopback address, for development or behind a local TLS proxy.
	Plain bool `yaml:"plain"`
	// The broker's certificate. It must be set unless `plain` is.
	TLS TLS `yaml:"tls"`
	// Serve gRPC reflection, so that tools can list the API.
	Reflection bool `yaml:"reflection"`
}

// TLS names PEM files, relative to the folder of the configuration file.
type TLS struct {
	// The certificate, with its chain.
	Certificate string `yaml:"certificate"`
	// The certificate's key.
	PrivateKey string `yaml:"private_key"`
	// The CA of the proxies' client certificates.
	ClientCA string `yaml:"client_ca"`
}

// Store says where the broker keeps its state. Paths are relative to the folder of the
// configuration file.
type Store struct {
	// The database file.
	Path string `yaml:"path" default:"data/daypass.db"`
	// The file with the key that seals secrets in the database. Keep it on another disk, or at least
	// out of the database's backups.
	SealingKey string `yaml:"sealing_key" default:"keys/sealing.key"`
}

// Audit says how the log is known.
type Audit struct {
	// The origin line of the log's checkpoints. The default is the host of `server.url` and `/log`.
	// It must never change.
	Origin string `yaml:"origin"`
	// The file with the key that signs the checkpoints. `daypassd init` makes it.
	SigningKey string `yaml:"signing_key" default:"keys/log.key"`
}

// Tokens says how grant tokens are signed.
type Tokens struct {
	// The signature algorithm (RFC 7518 and RFC 8037).
	Algorithm string `yaml:"algorithm" default:"ES256" enum:"ES256,EdDSA"`
}

// Issuing says how issuers are called.
type Issuing struct {
	// How long one credential may take to mint. An attempt that is older, because the broker was
	// killed in it, is taken for abandoned and revoked.
	Timeout time.Duration `yaml:"timeout" default:"20s"`
	// How long one step of a rotation may take. A step that is older, because the broker was killed in
	// it, is taken for abandoned and done again. The source gets three quarters of it, and Vault works up
	// to 90 seconds on one request: with less than 3m it may be cut off while it changes a root.
	RotationTimeout time.Duration `yaml:"rotation_timeout" default:"4m"`
	// How often the leases are compared with what their sources list.
	Reconcile time.Duration `yaml:"reconcile" default:"10m"`
	// How often it is asked which CI jobs are over.
	Jobs time.Duration `yaml:"jobs" default:"30s"`
}

// Proxy is a companion proxy. It shows a client certificate with the URI SAN `daypass://proxy/NAME`.
type Proxy struct {
	// The name in the certificate.
	Name string `yaml:"name,required"`
	// The targets whose grants it may redeem: names, or patterns in which `*` stands for any
	// characters.
	Targets []string `yaml:"targets,required"`
}

// MayRedeem reports whether the proxy may redeem grants for a target.
func (p Proxy) MayRedeem(target string) bool {
	for _, pattern := range p.Targets {
		if glob.Pattern(pattern).Match(target) {
			return true
		}
	}
	return false
}

// Issuer is a source of credentials: a name, and a key that names the driver and holds its settings.
// The driver reads them with Decode.
type Issuer struct {
	// The name that targets use.
	Name string
	// The driver's key, e.g. `vault` or `static`.
	Driver string
	// The driver's settings.
	Section *strictyaml.Node
}

// Decode reads the driver's settings into a struct, and returns every problem with its place.
func (i Issuer) Decode(into any) strictyaml.Problems { return i.Section.Decode(into) }

// DecodeNode implements strictyaml.Decoder.
func (i *Issuer) DecodeNode(n *strictyaml.Node) strictyaml.Problems {
	if n.Kind() != strictyaml.Mapping {
		return strictyaml.Problems{n.Problem("", "must be a mapping with a name and a driver", "")}
	}
	var drivers []string
	for _, key := range n.Keys() {
		if key != "name" {
			drivers = append(drivers, key)
		}
	}
	var problems strictyaml.Problems
	if name := n.Get("name"); name.Kind() == strictyaml.Null {
		problems = append(problems, n.Problem("name", "is missing", ""))
	} else {
		problems = name.Decode(&i.Name)
	}
	if len(drivers) != 1 {
		return append(problems, n.Problem("", "must have one key besides name, which names the driver and holds its settings", ""))
	}
	i.Driver, i.Section = drivers[0], n.Get(drivers[0])
	return problems
}

// Proxy returns a proxy by its name.
func (c *Config) Proxy(name string) (Proxy, bool) {
	for _, p := range c.Proxies {
		if p.Name == name {
			return p, true
		}
	}
	return Proxy{}, false
}
