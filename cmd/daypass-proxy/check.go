package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/strictyaml"
)

// namePattern is what the broker takes as the name of a proxy, targetPattern what can match the name
// of a target.
var (
	namePattern   = regexp.MustCompile(`^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,127})$`)
	targetPattern = regexp.MustCompile(`^(?:[A-Za-z0-9._*-]+)$`)
)

// problems finds what is wrong with values that could be read.
func (c *config) problems(node *strictyaml.Node) strictyaml.Problems {
	var problems strictyaml.Problems
	refuse := func(where, format string, args ...any) {
		problems = append(problems, node.Problem(where, fmt.Sprintf(format, args...), ""))
	}
	if !namePattern.MatchString(c.Name) {
		refuse("name", `is not a name: use letters, digits, ".", "_" and "-", at most 128, and begin with a letter or digit`)
	}
	if err := checkListen(c.Listen, c.TLS.Certificate != ""); err != nil {
		refuse("listen", "%s", err)
	}
	if u, err := url.Parse(c.URL); c.URL != "" && (err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host})) {
		refuse("url", "must be an http or https URL of scheme and host alone: what callers put before /TARGET")
	}
	if u, err := url.Parse(c.Broker.URL); err != nil || u.Hostname() == "" || *u != (url.URL{Scheme: "https", Host: u.Host}) {
		refuse("broker.url", "must be an https URL of scheme and host alone: a proxy shows its client certificate")
	}
	if (c.TLS.Certificate == "") != (c.TLS.PrivateKey == "") {
		refuse("tls", "certificate and private_key go together")
	}
	for i, pattern := range c.Targets {
		if !targetPattern.MatchString(pattern) {
			refuse(strictyaml.Index("targets", i), "matches no target: use a name, or a pattern in which * stands for any characters")
		}
	}
	if problems = append(problems, c.missingFiles(node)...); len(problems) > 0 {
		return problems
	}
	return c.wrongFiles(node)
}

// missingFiles finds files that are not there. The log's key may be missing before the first start.
func (c *config) missingFiles(node *strictyaml.Node) strictyaml.Problems {
	var problems strictyaml.Problems
	for where, name := range map[string]string{
		"tls.certificate": c.TLS.Certificate, "broker.ca_file": c.Broker.CAFile,
		"broker.certificate": c.Broker.Certificate, "upstream_ca_file": c.UpstreamCAFile,
		"tls.private_key": c.TLS.PrivateKey, "broker.private_key": c.Broker.PrivateKey,
	} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(c.path(name)); err != nil || !info.Mode().IsRegular() {
			problems = append(problems, node.Problem(where, fmt.Sprintf("there is no file %s", c.path(name)), "paths are relative to the folder of this file"))
		}
	}
	return problems
}

// wrongFiles finds files that are not what they should be.
func (c *config) wrongFiles(node *strictyaml.Node) strictyaml.Problems {
	var problems strictyaml.Problems
	refuse := func(where, message string) { problems = append(problems, node.Problem(where, message, "")) }
	if _, err := c.brokerTLS(); err != nil && c.Broker.Certificate != "" && c.Broker.PrivateKey != "" {
		refuse("broker", err.Error())
	}
	if _, err := c.listenTLS(); err != nil {
		refuse("tls", err.Error())
	}
	if _, err := c.upstreamRoots(); err != nil {
		refuse("upstream_ca_file", err.Error())
	}
	if _, err := readSigner(c); err != nil && !errors.Is(err, os.ErrNotExist) {
		refuse("log.signing_key", cred.PublicText(err))
	}
	return problems
}

func checkListen(address string, withTLS bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("must be HOST:PORT")
	}
	ip := net.ParseIP(host)
	if !withTLS && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("grant tokens must not travel in plain text: listen on 127.0.0.1, or set tls")
	}
	return nil
}
