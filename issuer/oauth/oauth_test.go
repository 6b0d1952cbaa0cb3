package oauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/issuertest"
	"github.com/daypass-io/daypass/issuer/oauth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sealer(t testing.TB) oauth.Sealer {
	t.Helper()
	h, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	a, err := aead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func loads(s string) oauth.Loader {
	return func(context.Context) (cred.Secret, error) { return cred.SecretString(s), nil }
}

// idToken is a Signer whose tokens tell what it was asked.
func idToken(_ context.Context, audience string, about issuer.Spec) (cred.Secret, error) {
	return cred.SecretString("id-token." + url.QueryEscape(audience) + "." + string(about.Grant)), nil
}

// plain is a client with a secret at a server.
func plain(base string, seal oauth.Sealer) oauth.Config {
	return oauth.Config{
		TokenURL: base + "/token", RevocationURL: base + "/revoke", AllowPlain: true, Grant: oauth.ClientCredentials,
		Client: oauth.Client{Method: oauth.ClientSecretBasic, ID: fakeClient, Secret: loads(fakeSecret)},
		Seal:   seal, Timeout: 5 * time.Second,
	}
}

func open(t *testing.T, cfg oauth.Config) *oauth.Issuer {
	t.Helper()
	i, err := oauth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func spec(notAfter time.Time, scopes ...string) issuer.Spec {
	return issuer.Spec{
		ID: cred.NewLeaseID(time.Now()), Grant: cred.NewGrantID(time.Now()), NotAfter: notAfter, Scopes: scopes,
		Target: cred.Target{Name: "x", Deliver: cred.DeliverDirect},
	}
}

func hour(scopes ...string) issuer.Spec { return spec(time.Now().Add(time.Hour), scopes...) }

func harness(t *testing.T, s *server, seal oauth.Sealer, edit func(*oauth.Config)) issuertest.Harness {
	make := func(t *testing.T, base string) issuer.Issuer {
		cfg := plain(base, seal)
		cfg.Timeout = 6 * time.Second // a loaded machine; and what Close waits for a silent server
		edit(&cfg)
		return open(t, cfg)
	}
	_, l, err := make(t, s.URL).Issue(t.Context(), hour("read"))
	if err != nil {
		t.Fatal(err)
	}
	s.set(func() { clear(s.live) })
	return issuertest.Harness{
		New: make, Source: s.URL, Works: s.works, Alive: s.alive, UnknownHandle: l.Handle, NotRevocable: l.Handle == "",
		Spec: func(notAfter time.Time) issuer.Spec { return spec(notAfter, "read") },
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*oauth.Config){
		"client_credentials": func(*oauth.Config) {},
		"token_exchange":     func(c *oauth.Config) { c.Grant, c.Subject = oauth.TokenExchange, idToken },
		"not revocable":      func(c *oauth.Config) { c.RevocationURL = "" },
		"a known life":       func(c *oauth.Config) { c.RevocationURL, c.Life = "", time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			issuertest.Test(t, harness(t, s, sealer(t), edit))
		})
	}
}

func TestContractRefresh(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.rotates, s.grace = true, 1<<20
	keep := &memory{kept: s.refresh}
	issuertest.Test(t, harness(t, s, sealer(t), func(c *oauth.Config) { c.Grant, c.Keeper = oauth.RefreshToken, keep }))
}

// TestClientAuthentication looks at what the server gets.
func TestClientAuthentication(t *testing.T) {
	s := newServer(t)
	issue := func(t *testing.T, c oauth.Client) url.Values {
		t.Helper()
		cfg := plain(s.URL, sealer(t))
		cfg.Client = c
		if _, _, err := open(t, cfg).Issue(t.Context(), hour("read")); err != nil {
			t.Fatal(err)
		}
		return s.last()
	}
	t.Run("basic", func(t *testing.T) {
		got := issue(t, oauth.Client{Method: oauth.ClientSecretBasic, ID: fakeClient, Secret: loads(fakeSecret)})
		if got.Get("basic:id") != "the+client%3A+1" || got.Has("client_id") || got.Has("client_secret") {
			t.Errorf("sent %v", got)
		}
	})
	t.Run("post", func(t *testing.T) {
		got := issue(t, oauth.Client{Method: oauth.ClientSecretPost, ID: fakeClient, Secret: loads(fakeSecret)})
		if got.Has("basic:id") || got.Get("client_secret") != fakeSecret {
			t.Errorf("sent %v", got)
		}
	})
	t.Run("assertion", func(t *testing.T) {
		got := issue(t, oauth.Client{Method: oauth.PrivateKeyJWT, ID: fakeClient, Assertion: idToken, Audience: "api://aud"})
		if !strings.HasPrefix(got.Get("client_assertion"), "id-token.api%3A%2F%2Faud.") || got.Get("client_id") != fakeClient {
			t.Errorf("sent %v", got)
		}
	})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, err3 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	t.Run("transit", func(t *testing.T) {
		c := oauth.Client{Method: oauth.PrivateKeyJWT, ID: fakeClient, Transit: heldElsewhere{rsaKey}, KeyID: "k1"}
		got := claims(t, issue(t, c).Get("client_assertion"), "RS256", rsaKey)
		if got["iss"] != fakeClient || got["aud"] != s.URL+"/token" {
			t.Errorf("claims %v", got)
		}
		cfg := plain(s.URL, sealer(t))
		cfg.Client = c
		cfg.Client.Transit = heldElsewhere{}
		if _, _, err := open(t, cfg).Issue(t.Context(), hour("read")); cred.KindOf(err) != cred.Unavailable || !errors.Is(err, issuer.ErrNotIssued) {
			t.Errorf("a key that is not there: %v", err)
		}
	})
	for alg, key := range map[string]crypto.Signer{"RS256": rsaKey, "ES256": ecKey, "EdDSA": edKey} {
		t.Run(alg, func(t *testing.T) {
			c := oauth.Client{Method: oauth.PrivateKeyJWT, ID: fakeClient, Key: parsed(t, key), KeyID: "k1"}
			first, second := issue(t, c), issue(t, c)
			if first.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
				t.Errorf("sent %v", first)
			}
			a, b := claims(t, first.Get("client_assertion"), alg, key), claims(t, second.Get("client_assertion"), alg, key)
			if a["iss"] != fakeClient || a["sub"] != fakeClient || a["aud"] != s.URL+"/token" || a["exp"].(float64)-a["iat"].(float64) != 60 {
				t.Errorf("claims %v", a)
			}
			if a["jti"] == "" || a["jti"] == b["jti"] {
				t.Errorf("two assertions have the jti %v and %v", a["jti"], b["jti"])
			}
		})
	}
}

// heldElsewhere is an RSA key that others hold; nil: they are not there.
type heldElsewhere struct{ key *rsa.PrivateKey }

func (h heldElsewhere) SignRS256(_ context.Context, input []byte) ([]byte, error) {
	if h.key == nil {
		return nil, cred.Errorf(cred.Unavailable, "test", "it is not there", "nothing holds it")
	}
	digest := sha256.Sum256(input)
	return rsa.SignPKCS1v15(rand.Reader, h.key, crypto.SHA256, digest[:])
}

// parsed sends a key through its PEM form.
func parsed(t *testing.T, key crypto.Signer) crypto.PrivateKey {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := oauth.ParseKey(cred.NewSecret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func claims(t *testing.T, assertion, alg string, key crypto.Signer) jwt.MapClaims {
	t.Helper()
	tok, err := jwt.Parse(assertion, func(*jwt.Token) (any, error) { return key.Public(), nil }, jwt.WithValidMethods([]string{alg}))
	if err != nil || tok.Header["kid"] != "k1" {
		t.Fatalf("the assertion does not verify: %v", err)
	}
	return tok.Claims.(jwt.MapClaims)
}

// TestGrants holds what each grant sends.
func TestGrants(t *testing.T) {
	s := newServer(t)
	want := hour("write", "read")
	want.Target.Credential.Params = map[string]string{"audience": "one two", "resource": "https://api.example.com"}
	for name, tc := range map[string]struct {
		edit func(*oauth.Config)
		want url.Values
	}{
		"client_credentials": {func(*oauth.Config) {}, url.Values{"grant_type": {"client_credentials"}}},
		"token_exchange": {
			func(c *oauth.Config) {
				c.Grant, c.Subject = oauth.TokenExchange, idToken
				c.RequestedType = "urn:ietf:params:oauth:token-type:access_token"
			},
			url.Values{
				"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
				"subject_token":        {"id-token." + url.QueryEscape(s.URL+"/token") + "." + string(want.Grant)},
				"subject_token_type":   {"urn:ietf:params:oauth:token-type:jwt"},
				"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
			},
		},
		"jwt_bearer": {
			func(c *oauth.Config) {
				c.Grant, c.Subject, c.Audience = oauth.JWTBearer, idToken, "aud"
				c.Extra = map[string]string{"vendor": "1"}
			},
			url.Values{
				"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {"id-token.aud." + string(want.Grant)}, "vendor": {"1"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := plain(s.URL, sealer(t))
			cfg.Client.Method = oauth.ClientSecretPost
			tc.edit(&cfg)
			if _, _, err := open(t, cfg).Issue(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			for k, v := range map[string][]string{
				"scope": {"read write"}, "audience": {"one", "two"}, "resource": {"https://api.example.com"},
				"client_id": {fakeClient}, "client_secret": {fakeSecret}, "header:accept": {"application/json"}, "header:anthropic-beta": {""},
			} {
				tc.want[k] = v
			}
			if diff := cmp.Diff(tc.want, s.last()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestVendors holds the payloads of OpenAI's and Anthropic's federation.
func TestVendors(t *testing.T) {
	s := newServer(t)
	for name, tc := range map[string]struct {
		cfg  oauth.Config
		want map[string]string
	}{
		"openai": {oauth.OpenAI(idToken, "idp", "svc"), map[string]string{
			"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
			"identity_provider_id": "idp", "service_account_id": "svc", "subject_token": "id-token.https%3A%2F%2Fapi.openai.com%2Fv1.", "header:anthropic-beta": "",
		}},
		"anthropic": {oauth.Anthropic(idToken, "rule", "org", "svc", ""), map[string]string{
			"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "id-token.https%3A%2F%2Fapi.anthropic.com.",
			"federation_rule_id": "rule", "organization_id": "org", "service_account_id": "svc",
			"header:anthropic-beta": "oauth-2025-04-20,oidc-federation-2026-04-01",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.TokenURL, tc.cfg.AllowPlain = s.URL+"/token", true
			want := hour()
			want.Grant = ""
			two := hour()
			two.Target.Credential.Params = map[string]string{"audience": "one two"}
			if _, _, err := open(t, tc.cfg).Issue(t.Context(), two); cred.KindOf(err) != cred.Invalid {
				t.Errorf("two audiences in JSON: %v", err)
			}
			_, l, err := open(t, tc.cfg).Issue(t.Context(), want)
			if err != nil || l.Revocable || l.Note == "" {
				t.Fatalf("%+v, %v", l, err)
			}
			tc.want["header:accept"] = "application/json"
			got := map[string]string{}
			for name := range s.last() {
				got[name] = s.last().Get(name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRefusesConfig holds that what can't be safe does not start.
func TestRefusesConfig(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*oauth.Config){
		"http elsewhere":        func(c *oauth.Config) { c.TokenURL = "http://login.example.com/token" },
		"http without a switch": func(c *oauth.Config) { c.AllowPlain = false },
		"user in the URL":       func(c *oauth.Config) { c.TokenURL = "https://a:b@login.example.com/token" },
		"fragment":              func(c *oauth.Config) { c.TokenURL = "https://login.example.com/token#x" },
		"plain revocation":      func(c *oauth.Config) { c.RevocationURL = "http://login.example.com/revoke" },
		"no seal":               func(c *oauth.Config) { c.Seal = nil },
		"no grant":              func(c *oauth.Config) { c.Grant = "" },
		"password grant":        func(c *oauth.Config) { c.Grant = "password" },
		"no client":             func(c *oauth.Config) { c.Client = oauth.Client{} },
		"no secret":             func(c *oauth.Config) { c.Client.Secret = nil },
		"unknown method":        func(c *oauth.Config) { c.Client.Method = "client_secret_jwt" },
		"short key":             func(c *oauth.Config) { c.Client = oauth.Client{Method: oauth.PrivateKeyJWT, ID: "x", Key: short} },
		"key and assertion": func(c *oauth.Config) {
			c.Client = oauth.Client{Method: oauth.PrivateKeyJWT, ID: "x", Key: short, Assertion: idToken}
		},
		"transit and assertion": func(c *oauth.Config) {
			c.Client = oauth.Client{Method: oauth.PrivateKeyJWT, ID: "x", Transit: heldElsewhere{}, Assertion: idToken}
		},
		"no keeper":        func(c *oauth.Config) { c.Grant = oauth.RefreshToken },
		"no subject":       func(c *oauth.Config) { c.Grant = oauth.TokenExchange },
		"reserved":         func(c *oauth.Config) { c.Extra = map[string]string{"scope": "all"} },
		"reserved header":  func(c *oauth.Config) { c.Header = map[string]string{"authorization": "x"} },
		"negative life":    func(c *oauth.Config) { c.Life = -time.Second },
		"no such CA file":  func(c *oauth.Config) { c.CAFile = "/nonexistent" },
		"CA file is no CA": func(c *oauth.Config) { c.CAFile = os.DevNull },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := plain("http://127.0.0.1:1", sealer(t))
			edit(&cfg)
			if _, err := oauth.New(cfg); cred.KindOf(err) != cred.Invalid || cred.PublicText(err) == "" {
				t.Errorf("%v, want kind invalid", err)
			}
		})
	}
	for _, text := range []string{"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := oauth.ParseKey(cred.SecretString(text)); cred.KindOf(err) != cred.Invalid {
			t.Errorf("ParseKey(%q): %v", text, err)
		}
	}
}

// TestRedirectIsNotFollowed holds that a client's secret goes nowhere else.
func TestRedirectIsNotFollowed(t *testing.T) {
	s, elsewhere := newServer(t), newServer(t)
	s.set(func() {
		s.answer = func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL+"/token")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	})
	_, _, err := open(t, plain(s.URL, sealer(t))).Issue(t.Context(), hour("read"))
	if cred.KindOf(err) != cred.Unavailable || elsewhere.requests() != 0 {
		t.Errorf("%v, and %d requests went elsewhere", err, elsewhere.requests())
	}
}
