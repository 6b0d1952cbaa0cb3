package vault

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// The parameters of a target that are for the issuer; all others go to Vault, with method write in
// the body, else in the query.
const (
	paramMethod  = "method"  // "read" (default) or "write", for engines that mint on POST: aws/sts, pki/issue
	paramEngine  = "engine"  // the engine's type: "kv2", "kv1", "database", ...; empty: ask Vault
	paramVersion = "version" // of a kv2 secret; empty: the newest
	paramWrap    = "wrap"    // how long an answer may wait wrapped, e.g. "30s"; empty: not wrapped
)

// source is what a target reads, as Vault wants to be asked.
type source struct {
	engine string // "kv2", "kv1", or the type that Vault gives; empty where it is not known
	req    request
	want   cred.CredentialSource
	own    *ownKey // the caller's key that is to be signed; nil for none
}

// kv reports whether the source holds values that stand, and so knows no leases.
func (s source) kv() bool { return s.engine == "kv2" || s.engine == "kv1" }

// source works out what to ask for.
func (i *Issuer) source(ctx context.Context, spec issuer.Spec) (source, error) {
	from := spec.Target.Credential
	if err := checkPath(from.Path); err != nil {
		return source{}, err
	}
	method, err := httpMethod(from.Params[paramMethod])
	if err != nil {
		return source{}, err
	}
	wrap, err := wrapTTL(from.Params[paramWrap])
	if err != nil {
		return source{}, err
	}
	m := mount{engine: from.Params[paramEngine]}
	if m.engine == "" {
		if m, err = i.mount(ctx, from.Path); err != nil {
			return source{}, err
		}
	}
	src := source{engine: m.engine, req: request{method: method, path: from.Path, wrap: wrap}, want: from}
	if src.engine == "kv2" {
		src.req.path = kv2Path(m.path, from.Path)
		if err := checkVersion(from.Params[paramVersion]); err != nil {
			return source{}, err
		}
	}
	if src.own, err = readOwnKey(src.engine, from, spec.Params); err != nil {
		return source{}, err
	}
	src.setParams(from.Params, spec.NotAfter)
	return src, nil
}

func (s *source) setParams(given map[string]string, notAfter time.Time) {
	body, query := map[string]any{}, url.Values{}
	for name, value := range given {
		if name == paramMethod || name == paramEngine || name == paramWrap || (name == paramVersion && s.engine != "kv2") {
			continue
		}
		body[name] = value
		query.Set(name, value)
	}
	if ttl := engineTTL(s.engine, time.Until(notAfter)); ttl > 0 && given["ttl"] == "" {
		body["ttl"] = ttl.String()
		query.Set("ttl", ttl.String())
	}
	if s.own != nil { // nothing is signed on a GET
		s.req.method = "POST"
		body[s.own.param] = s.own.text
	}
	if s.req.method == "POST" {
		s.req.body = body
	} else {
		s.req.params = query
	}
}

// checkVersion refuses what Vault would take for "the newest" or not at all.
func checkVersion(version string) error {
	if version == "" {
		return nil
	}
	if n, err := strconv.ParseUint(version, 10, 31); err != nil || n == 0 {
		return invalidConfig(`the target's parameter "version" must be the number of a version, from 1 on`, errors.New("vault: bad version"))
	}
	return nil
}

// engineTTL is the life to ask for where an engine makes what no lease can end: certificates; AWS STS
// credentials, whose shortest life is 15 minutes (AWS STS API, AssumeRole, DurationSeconds); and
// Kubernetes' service account tokens, whose shortest is 10 (TokenRequest API, expirationSeconds).
func engineTTL(engine string, left time.Duration) time.Duration {
	switch engine {
	case "pki", "ssh":
		return left.Truncate(time.Second)
	case "aws":
		return max(left.Truncate(time.Second), 15*time.Minute)
	case "kubernetes":
		return max(left.Truncate(time.Second), 10*time.Minute)
	}
	return 0
}

func httpMethod(param string) (string, error) {
	switch param {
	case "", "read":
		return "GET", nil
	case "write":
		return "POST", nil
	}
	return "", invalidConfig(`the target's parameter "method" must be read or write`, errors.New("vault: bad method"))
}

// checkPath refuses a path that would leave the API's tree or carry a query.
func checkPath(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return invalidConfig("the target's path in Vault must be like database/creds/orders-ro, without empty or dotted parts", errors.New("vault: bad path"))
		}
	}
	if strings.ContainsAny(path, "?#%\\") {
		return invalidConfig("the target's path in Vault has characters that no path has", errors.New("vault: bad path"))
	}
	return nil
}

// kv2Path puts "data/" behind the mount of a version 2 store, unless it stands there already: the
// path that people see is not the one that the API reads.
func kv2Path(mountPath, path string) string {
	if mountPath == "" {
		mountPath, _, _ = strings.Cut(path, "/")
		mountPath += "/"
	}
	rest, ok := strings.CutPrefix(path, mountPath)
	if !ok || strings.HasPrefix(rest, "data/") {
		return path
	}
	return mountPath + "data/" + rest
}
