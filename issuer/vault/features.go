package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
)

// server is what runs at the other end, as far as it tells (sys/health); its zero value is unknown, and
// is taken for one that can do everything.
type server struct {
	openBao      bool
	community    bool // Vault without a licence, which has no namespaces
	major, minor int
}

// server asks what runs at the other end. A failure is no matter: then it is unknown. The endpoint is of
// the root namespace and needs no token
// (https://developer.hashicorp.com/vault/api-docs/system/health).
func (i *Issuer) server(ctx context.Context) server {
	var s server
	_, err := i.client.do(ctx, request{
		method: "GET", path: "sys/health", root: true, params: url.Values{"standbyok": {"true"}, "perfstandbyok": {"true"}},
		read: func(body io.Reader) (err error) {
			s, err = readHealth(body)
			return err
		},
	})
	if err != nil {
		return server{}
	}
	return s
}

// readHealth tells Vault and OpenBao apart. Vault says whether it is Enterprise since 1.17; OpenBao never
// does, and began at version 2.
func readHealth(body io.Reader) (server, error) {
	var health struct {
		Version    string `json:"version"`
		Enterprise *bool  `json:"enterprise"`
	}
	if err := json.NewDecoder(body).Decode(&health); err != nil {
		return server{}, err
	}
	var s server
	if _, err := fmt.Sscanf(health.Version, "%d.%d", &s.major, &s.minor); err != nil {
		return server{}, err
	}
	s.openBao = health.Enterprise == nil && s.major >= 2
	s.community = health.Enterprise != nil && !*health.Enterprise
	return s, nil
}

// listsIrrevocable reports whether the server tells on which leases it has given up: Vault does since
// 1.8, and OpenBao always did.
func (s server) listsIrrevocable() bool {
	return s.major != 1 || s.minor >= 8
}
