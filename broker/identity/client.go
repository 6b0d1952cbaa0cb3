package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
)

// issuerClient returns the client for requests to a provider's issuer: bounded in time and size,
// and deaf to redirects, which would make another place the source of keys.
func issuerClient(p Provider) (*http.Client, error) {
	client := &http.Client{}
	if p.Client != nil {
		*client = *p.Client
	} else {
		transport, err := issuerTransport(p.CAFile)
		if err != nil {
			return nil, err
		}
		client.Transport = transport
	}
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	client.Transport = bounded{client.Transport}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, nil
}

func issuerTransport(caFile string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: fetchTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        2,
		IdleConnTimeout:     fetchTimeout,
	}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file can't be read: %w", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %q has no PEM certificate", caFile)
	}
	return t, nil
}

// bounded cuts answers off at maxDocumentBytes; go-oidc reads a discovery document to its end.
type bounded struct{ next http.RoundTripper }

// RoundTrip passes the request on and bounds the answer's body.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = cut{io.LimitReader(resp.Body, maxDocumentBytes), resp.Body}
	}
	return resp, err
}

// cut reads a part of a body and closes the whole.
type cut struct {
	io.Reader
	io.Closer
}
