package ownkeys

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/pki"
	"github.com/daypass-io/daypass/issuer"
)

// SeenProxy is a proxy that spoke to the broker lately, with the certificate that it showed.
type SeenProxy struct {
	Name        string
	Certificate *x509.Certificate // nil: it may have called, and nobody knows with what
}

// CAConfig is what the rotation of the CA needs that vouches for the broker to its callers, and for
// proxies to the broker. Bundle, Key, ServerCert, Proxies, Seen, Reload, Served and Now are required.
type CAConfig struct {
	Bundle     string   // PEM: the CA's certificate, as callers and proxies are given it
	Key        string   // the CA's key; it need not be there, the old one is not used
	ClientCA   string   // PEM: who vouches for proxies (server.tls.client_ca); empty: Bundle
	ServerCert string   // PEM: the broker's certificate (server.tls.certificate), whose key stays
	Proxies    []string // the proxies that the configuration names

	// Seen returns the proxies that spoke to the broker lately, and those of which that is not known: a
	// broker that has just started has seen nobody.
	Seen func(ctx context.Context) ([]SeenProxy, error)
	// Reload makes the process that runs take over ServerCert and ClientCA.
	Reload func(ctx context.Context) error
	// Served returns the certificate that the broker shows to whoever connects.
	Served func(ctx context.Context) (*x509.Certificate, error)
	// Spread is how long callers are given to get the bundle with the new CA before the broker shows a
	// certificate of it. The broker can't know who they are. Zero means 7 days.
	Spread time.Duration
	Now    func() time.Time
}

// ProxyCA rotates the CA of broker and proxies. Prepare makes the new CA, puts it into the bundle beside
// the old one, and certifies the keys of the proxies with it; people copy the files to where they are
// needed, and Switch waits for that. Then the broker's own certificate is one of the new CA. Retire waits
// until no proxy shows a certificate of the old one, and takes that out of the bundle. No private key
// moves: certificates are issued anew for the keys that are there.
type ProxyCA struct{ cfg CAConfig }

var _ issuer.Rotator = (*ProxyCA)(nil)

// NewProxyCA checks a configuration. Errors are Invalid.
func NewProxyCA(cfg CAConfig) (*ProxyCA, error) {
	if cfg.Bundle == "" || cfg.Key == "" || cfg.ServerCert == "" || cfg.Seen == nil || cfg.Reload == nil || cfg.Served == nil || cfg.Now == nil {
		return nil, cred.Errorf(cred.Invalid, "proxy_ca", "the rotation of the proxies' CA lacks a required part of its configuration", "incomplete")
	}
	if cfg.ClientCA == "" {
		cfg.ClientCA = cfg.Bundle
	}
	if cfg.Spread <= 0 {
		cfg.Spread = 7 * 24 * time.Hour
	}
	return &ProxyCA{cfg}, nil
}

// The files of a rotation stand beside those that they take the place of.
func beside(path, what string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "." + what + ext
}

func (p *ProxyCA) nextCert() string  { return beside(p.cfg.Bundle, "next") }
func (p *ProxyCA) nextKey() string   { return beside(p.cfg.Key, "next") }
func (p *ProxyCA) oldServer() string { return beside(p.cfg.ServerCert, "old") }

// nextServer is the broker's certificate of the new CA, until Switch.
func (p *ProxyCA) nextServer() string { return beside(p.cfg.ServerCert, "next") }

func (p *ProxyCA) proxyCert(name string) string {
	return filepath.Join(filepath.Dir(p.cfg.Bundle), "proxy-"+name+".pem")
}

// Check implements issuer.Rotator.
func (p *ProxyCA) Check(ctx context.Context, _ issuer.Rotation) ([]cred.Finding, error) {
	bundle, err := readCerts(p.cfg.Bundle)
	if err != nil {
		return nil, err
	}
	server, err := readCerts(p.cfg.ServerCert)
	if err != nil {
		return nil, err
	}
	ours := cred.Finding{Name: "the broker's certificate is of the CA", OK: false, Text: "no CA in " + p.cfg.Bundle + " has issued " + p.cfg.ServerCert}
	for _, ca := range bundle {
		if issuedBy(server[0], ca) {
			ours.OK, ours.Text = true, fmt.Sprintf("CA %s, valid until %s", caName(ca), clock(ca.NotAfter))
		}
	}
	known, err := p.proxyCerts(ctx)
	if err != nil {
		return nil, err
	}
	text := "certificates for all proxies can be issued anew"
	var missing []string
	for _, name := range p.cfg.Proxies {
		if known[name] == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		text = fmt.Sprintf("no certificate of %s is known, since it was neither seen lately nor stands beside the bundle; certify it by hand", strings.Join(missing, ", "))
	}
	return []cred.Finding{ours, {Name: "proxies", OK: true, Text: text}}, nil
}

// proxyCerts returns the certificates of proxies that are known: those seen, else those beside the bundle.
func (p *ProxyCA) proxyCerts(ctx context.Context) (map[string]*x509.Certificate, error) {
	known := map[string]*x509.Certificate{}
	for _, name := range p.cfg.Proxies {
		if certs, err := readCerts(p.proxyCert(name)); err == nil {
			known[name] = certs[0]
		}
	}
	seen, err := p.cfg.Seen(ctx)
	for _, s := range seen {
		if s.Certificate != nil && slices.Contains(p.cfg.Proxies, s.Name) {
			known[s.Name] = s.Certificate
		}
	}
	return known, err
}

// preparedNote is when Prepare was done.
const preparedNote = "prepared"

// Prepare implements issuer.Rotator. A new CA from an earlier try was given to nobody for good, and makes
// room.
func (p *ProxyCA) Prepare(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	if err := p.undo(ctx, issuer.Rotation{}); err != nil {
		return r, err
	}
	old, err := readCerts(p.cfg.Bundle)
	if err != nil {
		return r, err
	}
	// The name tells it from the one before, so that nobody has to try both.
	ca, err := pki.NewAuthority("daypass CA "+rand.Text()[:8], p.cfg.Now())
	if err != nil {
		return r, err
	}
	if err := ca.Save(p.nextCert(), p.nextKey()); err != nil {
		return r, err
	}
	if err := p.certify(ctx, ca); err != nil {
		return r, err
	}
	for _, path := range []string{p.cfg.Bundle, p.cfg.ClientCA} {
		certs, err := readCerts(path)
		if err == nil {
			err = pki.WriteCerts(path, append(without(certs, caName(ca.Cert)), ca.Cert)...)
		}
		if err != nil {
			return r, err
		}
	}
	if err := p.reload(ctx); err != nil {
		return r, err
	}
	r.Old, r.New = caName(old[0]), caName(ca.Cert)
	r.Notes = map[string]cred.Secret{preparedNote: cred.SecretString(p.cfg.Now().UTC().Format(time.RFC3339))}
	return r, nil
}

// certify issues the certificates of the broker and of the proxies that are known.
func (p *ProxyCA) certify(ctx context.Context, ca *pki.Authority) error {
	server, err := readCerts(p.cfg.ServerCert)
	if err != nil {
		return err
	}
	known, err := p.proxyCerts(ctx)
	if err != nil {
		return err
	}
	due := map[string]*x509.Certificate{p.nextServer(): server[0]}
	for name, cert := range known {
		due[beside(p.proxyCert(name), "next")] = cert
	}
	for path, cert := range due {
		next, err := ca.Renew(cert, p.cfg.Now())
		if err != nil {
			return fileError(path, err)
		}
		if err := pki.WriteCerts(path, next); err != nil {
			return err
		}
	}
	return nil
}

// reload makes the process take the files over. They are changed, so an error is tried again.
func (p *ProxyCA) reload(ctx context.Context) error {
	if err := p.cfg.Reload(ctx); err != nil {
		return &cred.Error{Kind: cred.Unavailable, Op: "proxy_ca.reload", Public: "the broker could not load its certificates anew", Err: err}
	}
	return nil
}

// lagging returns the proxies seen lately whose certificate is not of a CA, or not known.
func (p *ProxyCA) lagging(ctx context.Context, ca *x509.Certificate) ([]string, error) {
	seen, err := p.cfg.Seen(ctx)
	var names []string
	for _, s := range seen {
		switch {
		case s.Certificate == nil:
			names = append(names, s.Name+" (has not called since the broker started)")
		case !issuedBy(s.Certificate, ca):
			names = append(names, s.Name)
		}
	}
	return names, err
}

// Switch implements issuer.Rotator.
func (p *ProxyCA) Switch(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	ca, err := p.newCA(r)
	if err != nil {
		return r, err
	}
	server, err := readCerts(p.cfg.ServerCert)
	if err != nil {
		return r, err
	}
	if !issuedBy(server[0], ca) {
		if err := p.waitSpread(ctx, r, ca); err != nil {
			return r, err
		}
		next, err := readCerts(p.nextServer())
		if err != nil {
			return r, err
		}
		if err := errors.Join(pki.WriteCerts(p.oldServer(), server...), pki.WriteCerts(p.cfg.ServerCert, next...)); err != nil {
			return r, err
		}
	}
	return r, p.reload(ctx)
}

func (p *ProxyCA) newCA(r issuer.Rotation) (*x509.Certificate, error) {
	bundle, err := readCerts(p.cfg.Bundle)
	if err != nil {
		return nil, err
	}
	ca := named(bundle, r.New)
	if ca == nil {
		return nil, changed("proxy_ca", "the CA in "+p.cfg.Bundle, caName(bundle[0]), r)
	}
	return ca, nil
}

// waitSpread waits until everybody has the bundle, as far as can be known.
func (p *ProxyCA) waitSpread(ctx context.Context, r issuer.Rotation, ca *x509.Certificate) error {
	behind, err := p.lagging(ctx, ca)
	if err != nil {
		return err
	}
	if len(behind) > 0 {
		return ask("proxy_ca.switch", fmt.Sprintf("copy %s to every proxy and caller in the place of its ca_file, and %s to the proxy NAME in the place of its certificate, whose key stays, "+
			"and restart the proxy; these still show certificates of the old CA: %s", p.cfg.Bundle, beside(p.proxyCert("NAME"), "next"), strings.Join(behind, ", ")), time.Time{}, time.Time{})
	}
	prepared, err := time.Parse(time.RFC3339, r.Notes[preparedNote].RevealString())
	if err != nil {
		return cred.Errorf(cred.Invalid, "proxy_ca.switch", "the rotation does not say when it was prepared; begin a new one", "%w", err)
	}
	if now, at := p.cfg.Now(), prepared.Add(p.cfg.Spread); now.Before(at) {
		return ask("proxy_ca.switch", fmt.Sprintf("copy %s to every caller in the place of its ca_file; the broker shows a certificate of the new CA from %s on", p.cfg.Bundle, clock(at)), now, at)
	}
	return nil
}

// Verify implements issuer.Rotator: the broker shows a certificate of the new CA to whoever connects.
func (p *ProxyCA) Verify(ctx context.Context, r issuer.Rotation) error {
	ca, err := p.newCA(r)
	if err != nil {
		return err
	}
	served, err := p.cfg.Served(ctx)
	if err != nil {
		return &cred.Error{Kind: cred.Unavailable, Op: "proxy_ca.verify", Public: "the broker's own address does not answer", Err: err}
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	if _, err := served.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: p.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return &cred.Error{Kind: cred.Invalid, Op: "proxy_ca.verify", Reason: "ROTATION_UNPROVEN", Public: "the broker does not show a certificate that the new CA vouches for", Err: err}
	}
	return nil
}

// Retire implements issuer.Rotator.
func (p *ProxyCA) Retire(ctx context.Context, r issuer.Rotation) (issuer.Rotation, error) {
	ca, err := p.newCA(r)
	if err != nil {
		return r, err
	}
	behind, err := p.lagging(ctx, ca)
	if err != nil {
		return r, err
	}
	if len(behind) > 0 {
		return r, ask("proxy_ca.retire", fmt.Sprintf("copy %s to the proxy NAME in the place of its certificate; these still show certificates of the old CA: %s",
			beside(p.proxyCert("NAME"), "next"), strings.Join(behind, ", ")), time.Time{}, time.Time{})
	}
	for _, path := range []string{p.cfg.ClientCA, p.cfg.Bundle} {
		if err := pki.WriteCerts(path, ca); err != nil {
			return r, err
		}
	}
	if err := rename(p.nextKey(), p.cfg.Key); err != nil {
		return r, err
	}
	for _, name := range p.cfg.Proxies {
		if err := rename(beside(p.proxyCert(name), "next"), p.proxyCert(name)); err != nil {
			return r, err
		}
	}
	if err := remove(p.nextCert(), p.nextServer(), p.oldServer()); err != nil {
		return r, err
	}
	return r, p.reload(ctx)
}

// Undo implements issuer.Rotator.
func (p *ProxyCA) Undo(ctx context.Context, r issuer.Rotation) error { return undone(p.undo(ctx, r)) }

func (p *ProxyCA) undo(ctx context.Context, r issuer.Rotation) error {
	next, err := readCerts(p.nextCert())
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	case err != nil && r.New != "" && p.onlyNew(r):
		return gone("proxy_ca.undo", "the CA "+r.Old)
	case err == nil:
		if err := p.restore(ctx, next[0]); err != nil {
			return err
		}
	}
	paths := []string{p.nextKey(), p.nextServer(), p.nextCert()}
	for _, name := range p.cfg.Proxies {
		paths = append(paths, beside(p.proxyCert(name), "next"))
	}
	if err := remove(paths...); err != nil {
		return err
	}
	return p.reload(ctx)
}

func (p *ProxyCA) onlyNew(r issuer.Rotation) bool {
	bundle, err := readCerts(p.cfg.Bundle)
	return err == nil && len(bundle) == 1 && caName(bundle[0]) == r.New
}

// restore puts the broker's certificate of before back, and takes the new CA out of the bundles once no
// proxy shows a certificate of it.
func (p *ProxyCA) restore(ctx context.Context, next *x509.Certificate) error {
	if old, err := readCerts(p.oldServer()); err == nil {
		if err := pki.WriteCerts(p.cfg.ServerCert, old...); err != nil {
			return err
		}
		if err := p.reload(ctx); err != nil {
			return err
		}
		if err := remove(p.oldServer()); err != nil {
			return err
		}
	}
	seen, err := p.cfg.Seen(ctx)
	if err != nil {
		return err
	}
	for _, s := range seen {
		if s.Certificate != nil && issuedBy(s.Certificate, next) {
			return ask("proxy_ca.undo", fmt.Sprintf("the broker shows its old certificate again; give the proxy %s its certificate of the old CA back, and restart it", s.Name), time.Time{}, time.Time{})
		}
	}
	for _, path := range []string{p.cfg.ClientCA, p.cfg.Bundle} {
		certs, err := readCerts(path)
		if err != nil {
			return err
		}
		if rest := without(certs, caName(next)); len(rest) > 0 {
			if err := pki.WriteCerts(path, rest...); err != nil {
				return err
			}
		}
	}
	return nil
}
