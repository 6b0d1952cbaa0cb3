package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxRedirects is how often an issuer may send us on, within its own host.
const maxRedirects = 3

// confined returns a copy of a client that follows redirects within one origin alone: an open
// redirect on the issuer's host must not choose whose keys we trust.
func confined(c *http.Client) *http.Client {
	var own http.Client
	if c != nil {
		own = *c
	}
	own.CheckRedirect = func(to *http.Request, via []*http.Request) error {
		from := via[0].URL
		if to.URL.Scheme != from.Scheme || to.URL.Host != from.Host {
			return errors.New("jwks: the issuer redirects to another origin")
		}
		if len(via) > maxRedirects {
			return errors.New("jwks: the issuer redirects too often")
		}
		return nil
	}
	return &own
}

func (s *Set) fetch(ctx context.Context) ([]key, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("jwks: %s answers %s", s.url, resp.Status)
	}
	doc, err := io.ReadAll(io.LimitReader(resp.Body, s.o.MaxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(doc)) > s.o.MaxBytes {
		return nil, fmt.Errorf("jwks: %s answers with more than %d bytes", s.url, s.o.MaxBytes)
	}
	return parse(doc, s.o.Uses...)
}
