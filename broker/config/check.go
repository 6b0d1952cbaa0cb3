package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/daypass-io/daypass/broker/policy"
	"github.com/daypass-io/daypass/internal/glob"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

func (k *checker) server() {
	host, _, err := net.SplitHostPort(k.Server.Listen)
	if err != nil {
		k.refuse("server.listen", "must be an address such as 127.0.0.1:8443", "")
		return
	}
	if k.Server.Plain && !isLoopback(host) {
		k.refuse("server.plain", "is for loopback addresses alone, and the broker listens on "+k.Server.Listen,
			"set server.tls, or listen on 127.0.0.1")
	}
	if k.Server.URL != "" {
		k.serverURL()
		return
	}
	if !isLoopback(host) {
		k.refuse("server.url", "is missing: callers can't use the address that the broker listens on", "such as https://daypass.example.com")
		return
	}
	k.Server.URL = "https://" + k.Server.Listen
	if k.Server.Plain {
		k.Server.URL = "http://" + k.Server.Listen
	}
}

func (k *checker) serverURL() {
	u, err := url.Parse(k.Server.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" || strings.ContainsAny(k.Server.URL, "?#"):
		k.refuse("server.url", "must be a URL of scheme and host alone, such as https://daypass.example.com", "")
	case u.Scheme != "https" && !(u.Scheme == "http" && k.Server.Plain && isLoopback(u.Hostname())):
		k.refuse("server.url", "must be https; http is for server.plain on a loopback address", "")
	}
}

// audit derives the log's origin. Its form is that of a signed note's key name (C2SP signed-note).
func (k *checker) audit() {
	if k.Audit.Origin == "" {
		_, host, _ := strings.Cut(k.Server.URL, "://")
		k.Audit.Origin = host + "/log"
	}
	if strings.ContainsFunc(k.Audit.Origin, func(r rune) bool { return r <= ' ' || r > '~' || r == '+' }) || len(k.Audit.Origin) > 128 {
		k.refuse("audit.origin", `must be at most 128 printable ASCII characters without spaces and "+"`, "")
	}
}

// minTimeout is the shortest that leaves a source time to answer.
const minTimeout = 500 * time.Millisecond

func (k *checker) issuing() {
	if k.Issuing.Timeout < minTimeout || k.Issuing.Timeout > 5*time.Minute {
		k.refuse("issuing.timeout", "must be between 500ms and 5m", "")
	}
	if k.Issuing.RotationTimeout < 4*minTimeout || k.Issuing.RotationTimeout > time.Hour {
		k.refuse("issuing.rotation_timeout", "must be between 2s and 1h", "")
	}
	if k.Issuing.Reconcile < time.Second || k.Issuing.Reconcile > 24*time.Hour {
		k.refuse("issuing.reconcile", "must be between 1s and 24h", "")
	}
	if k.Issuing.Jobs < time.Second || k.Issuing.Jobs > time.Hour {
		k.refuse("issuing.jobs", "must be between 1s and 1h", "")
	}
}

func (k *checker) files() {
	tls := &k.Server.TLS
	switch {
	case k.Server.Plain && *tls != (TLS{}):
		k.refuse("server.tls", "has no use together with server.plain", "")
	case !k.Server.Plain && (tls.Certificate == "" || tls.PrivateKey == ""):
		k.refuse("server.tls", "must name a certificate and its private_key", "or set server.plain on a loopback address")
	}
	if len(k.Proxies) > 0 && tls.ClientCA == "" {
		k.refuse("server.tls.client_ca", "is missing: proxies are known by their client certificates", "")
	}
	k.file("server.tls.certificate", &tls.Certificate)
	k.file("server.tls.private_key", &tls.PrivateKey)
	k.file("server.tls.client_ca", &tls.ClientCA)
	k.file("store.sealing_key", &k.Store.SealingKey)
	k.file("audit.signing_key", &k.Audit.SigningKey)
	k.Store.Path = k.inFolder(k.Store.Path) // made where it is not there
}

func (k *checker) issuers() {
	names := map[string]bool{}
	for i, issuer := range k.Issuers {
		path := strictyaml.Index("issuers", i)
		if issuer.Name == "" && issuer.Driver == "" {
			continue // it is no mapping, which has been told
		}
		k.name(path+".name", issuer.Name, names)
		if issuer.Driver != "" && k.o.Drivers != nil && !slices.Contains(k.o.Drivers, issuer.Driver) {
			k.refuse(strictyaml.Key(path, issuer.Driver), "there is no such driver", hint(issuer.Driver, k.o.Drivers))
		}
	}
}

func (k *checker) proxies() {
	names := map[string]bool{}
	for i, p := range k.Proxies {
		path := strictyaml.Index("proxies", i)
		k.name(path+".name", p.Name, names)
		for j, pattern := range p.Targets {
			if glob.Pattern(pattern).Literal() && !slices.ContainsFunc(k.Targets, func(t policy.Target) bool { return t.Name == pattern }) {
				k.refuse(strictyaml.Index(path+".targets", j), fmt.Sprintf("there is no target %q", pattern), hint(pattern, k.targetNames()))
			}
		}
	}
}

func (k *checker) targetNames() []string {
	var names []string
	for _, t := range k.Targets {
		names = append(names, t.Name)
	}
	return names
}

// targets checks what targets refer to outside the rule set.
func (k *checker) targets() {
	var issuers []string
	for _, i := range k.Issuers {
		issuers = append(issuers, i.Name)
	}
	for i, t := range k.Targets {
		path := strictyaml.Index("targets", i)
		if name := t.Credential.Issuer; name != "" && !slices.Contains(issuers, name) {
			k.refuse(path+".credential.issuer", fmt.Sprintf("there is no issuer %q", name), hint(name, issuers))
		}
		for j, d := range t.Mask.Detectors {
			if k.o.Detectors != nil && !slices.Contains(k.o.Detectors, d) {
				k.refuse(strictyaml.Index(path+".mask.detectors", j), fmt.Sprintf("there is no detector %q", d), hint(d, k.o.Detectors))
			}
		}
	}
}

// hint names what was probably meant, or what is possible.
func hint(unknown string, known []string) string {
	if h := strictyaml.DidYouMean(unknown, known); h != "" || len(known) == 0 {
		return h
	}
	return "possible are " + strings.Join(known, ", ")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
