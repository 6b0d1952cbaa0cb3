package aws_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token"
	"github.com/daypass-io/daypass/issuer"
	"github.com/daypass-io/daypass/issuer/aws"
	"github.com/daypass-io/daypass/issuer/issuertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ issuer.Issuer     = (*aws.Issuer)(nil)
	_ issuer.Unfindable = (*aws.Issuer)(nil)
	_ issuer.KeyLister  = (*aws.AccessKeys)(nil)
)

// source signs ID tokens as the broker does.
func source(ring *token.KeyRing, now func() time.Time) aws.Source {
	return func(_ context.Context, audience string, claims map[string]any) (cred.Secret, error) {
		return ring.SignIDToken(brokerURL, subject, audience, now(), time.Minute, claims)
	}
}

func config(c *cloud) aws.Config {
	return aws.Config{Endpoint: c.URL, AllowPlain: true, Source: source(c.ring, time.Now), Timeout: 5 * time.Second}
}

func open(t testing.TB, cfg aws.Config) *aws.Issuer {
	t.Helper()
	i, err := aws.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func spec(notAfter time.Time, params map[string]string) issuer.Spec {
	return issuer.Spec{
		ID: cred.NewLeaseID(time.Now()), Grant: cred.NewGrantID(time.Now()), NotAfter: notAfter,
		Target: cred.Target{Name: "x", Deliver: cred.DeliverDirect, Credential: cred.CredentialSource{Path: role, Params: params}},
	}
}

func inHalfAnHour() time.Time { return time.Now().Add(30 * time.Minute) }

// client is AWS' own client of STS, with our credential and no patience.
func client(c *cloud, made cred.Credential) *sts.Client {
	return sts.New(sts.Options{
		Region: region, BaseEndpoint: &c.URL, RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		Credentials: sdk.CredentialsProviderFunc(func(context.Context) (sdk.Credentials, error) {
			field := func(name string) string { return made.Fields[name].RevealString() }
			return sdk.Credentials{
				AccessKeyID: field("access_key_id"), SecretAccessKey: field("secret_access_key"), SessionToken: field("session_token"),
				CanExpire: true, Expires: made.NotAfter,
			}, nil
		}),
	})
}

func TestContract(t *testing.T) {
	c := newCloud(t)
	issuertest.Test(t, issuertest.Harness{
		New: func(t *testing.T, base string) issuer.Issuer {
			cfg := config(c)
			cfg.Endpoint = base
			return open(t, cfg)
		},
		Source: c.URL,
		Spec: func(notAfter time.Time) issuer.Spec {
			return spec(notAfter, map[string]string{"tags": "Team=payments"})
		},
		Works: func(ctx context.Context, made cred.Credential) error {
			_, err := client(c, made).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			return err
		},
		Alive:        func(context.Context) (int, error) { return c.alive(), nil },
		NotRevocable: true,
	})
}

// TestSDKAgreesWithTheFake lets AWS' own client do what the issuer does, so that the fake is held to the
// protocol and not to the issuer.
func TestSDKAgreesWithTheFake(t *testing.T) {
	c := newCloud(t)
	tok, err := c.ring.SignIDToken(brokerURL, subject, audience, time.Now(), time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs := client(c, cred.Credential{})
	in := &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: sdk.String(role), RoleSessionName: sdk.String("someone"), WebIdentityToken: sdk.String(tok.RevealString()), DurationSeconds: sdk.Int32(900),
	}
	out, err := theirs.AssumeRoleWithWebIdentity(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if got := sdk.ToString(out.AssumedRoleUser.Arn); got != "arn:aws:sts::"+account+":assumed-role/"+roleName+"/someone" {
		t.Errorf("assumed %s", got)
	}
	if left := time.Until(sdk.ToTime(out.Credentials.Expiration)); left < 890*time.Second || left > 900*time.Second {
		t.Errorf("%v left of 15 minutes", left)
	}
	in.RoleArn = sdk.String(role + "x")
	if _, err := theirs.AssumeRoleWithWebIdentity(t.Context(), in); err == nil || !strings.Contains(err.Error(), "api error AccessDenied") {
		t.Errorf("another role: %v", err)
	}
}

func TestSessionCarriesTheGrantAndItsBounds(t *testing.T) {
	c := newCloud(t)
	s := spec(inHalfAnHour(), map[string]string{
		"policy":          "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [ { \"Effect\": \"Allow\", \"Action\": \"s3:GetObject\", \"Resource\": \"arn:aws:s3:::orders-{env}/*\" } ]\n}",
		"policy_arns":     "arn:aws:iam::aws:policy/ReadOnlyAccess, arn:aws:iam::123456789012:policy/ci/deploy",
		"tags":            "Team=payments, Env={env}",
		"transitive_tags": "Env",
	})
	var err error
	if s.Target.Credential, err = issuer.Narrow(s.Target.Credential, map[string]string{"env": "prod-1"}); err != nil {
		t.Fatal(err)
	}
	got, lease, err := open(t, config(c)).Issue(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	m := c.only(t)
	type view struct {
		Name, Source, Policy string
		ARNs, Transitive     []string
		Tags                 map[string][]string
	}
	want := view{
		string(s.Grant), string(s.Grant),
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::orders-prod-1/*"}]}`,
		[]string{"arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::123456789012:policy/ci/deploy"},
		[]string{"Env"},
		map[string][]string{"Team": {"payments"}, "Env": {"prod-1"}},
	}
	if diff := cmp.Diff(want, view{m.name, m.source, m.policy, m.policyARNs, m.transitive, m.tags}); diff != "" {
		t.Error(diff)
	}
	if got.Type != cred.AWS || len(got.Fields) != 3 || got.Fields["session_token"].RevealString() != m.token ||
		got.Fields["secret_access_key"].RevealString() != m.secret || !got.NotAfter.Equal(m.ends.Truncate(time.Second)) {
		t.Errorf("got a %s of %d fields until %v", got.Type, len(got.Fields), got.NotAfter)
	}
	if lease.Revocable || lease.NotAfter.After(s.NotAfter) || !strings.Contains(lease.Note, "ends no session early") || strings.Contains(lease.Note, "grant") {
		t.Errorf("the lease: %+v", lease)
	}
}

// TestNothingIsBoundByAccident: a target without a policy sends none, and one without tags no claim.
func TestNothingIsBoundByAccident(t *testing.T) {
	c := newCloud(t)
	c.mayTag = false
	cfg := config(c)
	cfg.RoleARN = role
	s := spec(inHalfAnHour(), nil)
	s.Target.Credential.Path, s.Grant = "", ""
	if _, _, err := open(t, cfg).Issue(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if m := c.only(t); m.name != string(s.ID) || m.tags != nil {
		t.Errorf("made %q with tags %v", m.name, m.tags)
	}
	if form := c.seen[0]; len(form) != 6 {
		t.Errorf("sent %v", form)
	}
}

func TestLife(t *testing.T) {
	for name, c := range map[string]struct {
		left, longest, most time.Duration
		want                time.Duration
		note                string
	}{
		"short":           {5 * time.Minute, time.Hour, 0, 15 * time.Minute, `none shorter than 15 minutes: this one ends (9m59|10m0)s after its grant, and its session policy lets it do nothing from the grant's end on$`},
		"barely short":    {15*time.Minute + 2*time.Second, time.Hour, 0, 15 * time.Minute, "own end$"},
		"as granted":      {40*time.Minute + 500*time.Millisecond, time.Hour, 0, 39*time.Minute + 55*time.Second, "own end$"},
		"up to a maximum": {3 * time.Hour, time.Hour, time.Hour, time.Hour, `, 2h0m[01]s before its grant's, since the issuer asks for no longer sessions$`},
		"half a day":      {13 * time.Hour, 12 * time.Hour, 0, 12 * time.Hour, `, 1h0m[01]s before its grant's, since the issuer asks for no longer sessions$`},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCloud(t)
			cl.longest = c.longest
			cfg := config(cl)
			cfg.MaxDuration = c.most
			_, lease, err := open(t, cfg).Issue(t.Context(), spec(time.Now().Add(c.left), nil))
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Until(lease.NotAfter); got > c.want || got < c.want-5*time.Second {
				t.Errorf("%v left, want %v", got, c.want)
			}
			if asked := cl.seen[0].Get("DurationSeconds"); asked != fmt.Sprint(int(c.want/time.Second)) && asked != fmt.Sprint(int(c.want/time.Second)-1) {
				t.Errorf("asked for %s seconds, want %v", asked, c.want)
			}
			if !regexp.MustCompile(c.note).MatchString(lease.Note) {
				t.Errorf("note %q, want %q", lease.Note, c.note)
			}
		})
	}
}

// TestSessionTokensOfAnySize: AWS sets no bound; a session token is taken whole.
func TestSessionTokensOfAnySize(t *testing.T) {
	c := newCloud(t)
	c.longTokens = 120_000
	got, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil))
	if err != nil {
		t.Fatal(err)
	}
	if got.Fields["session_token"].RevealString() != c.only(t).token {
		t.Error("the session token is not what AWS made")
	}
	c.longTokens = 400_000
	_, _, err = open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil))
	wantLost(t, err)
}

func TestRevokeSaysWhatToDo(t *testing.T) {
	err := open(t, config(newCloud(t))).Revoke(t.Context(), cred.Lease{})
	e, ok := errors.AsType[*cred.Error](err)
	if !ok || e.Kind != cred.Invalid || e.Reason != "NOT_REVOCABLE" || !strings.Contains(e.Public, "aws:TokenIssueTime") || !strings.Contains(e.Public, "aws:SourceIdentity") {
		t.Errorf("Revoke: %v", err)
	}
}

func TestLost(t *testing.T) {
	cfg := config(newCloud(t))
	asked := time.Now()
	for most, want := range map[time.Duration]time.Duration{0: 12 * time.Hour, time.Hour: time.Hour} {
		cfg.MaxDuration = most
		if end, note := open(t, cfg).Lost(asked); !end.Equal(asked.Add(want+cfg.Timeout)) || note == "" {
			t.Errorf("maximum %v: ends at %v, %q", most, end, note)
		}
	}
}

func TestCheck(t *testing.T) {
	c := newCloud(t)
	if err := open(t, config(c)).Check(t.Context()); err != nil || len(c.seen) > 0 {
		t.Errorf("Check: %v, and AWS was asked %d times", err, len(c.seen))
	}
	cfg := config(c)
	cfg.Source = func(context.Context, string, map[string]any) (cred.Secret, error) {
		return cred.Secret{}, errors.New("no keys")
	}
	wantNotIssued(t, open(t, cfg).Check(t.Context()), "")
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	other := newCloud(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		c := newCloud(t)
		c.instead = func(w http.ResponseWriter, _ int) bool {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
			return true
		}
		_, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil))
		wantLost(t, err)
		if len(other.seen) > 0 {
			t.Fatalf("status %d carried the ID token to another address", status)
		}
	}
}

func TestConfig(t *testing.T) {
	good := aws.Config{Region: "eu-central-1", Source: source(nil, time.Now)}
	if _, err := aws.New(good); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*aws.Config){
		"no place":            func(c *aws.Config) { c.Region = "" },
		"a region of nobody":  func(c *aws.Config) { c.Region = "example.com/" },
		"http":                func(c *aws.Config) { c.Endpoint = "http://127.0.0.1:1" },
		"http to elsewhere":   func(c *aws.Config) { c.Endpoint, c.AllowPlain = "http://sts.example.com", true },
		"a user":              func(c *aws.Config) { c.Endpoint = "https://a@sts.example.com" },
		"a query":             func(c *aws.Config) { c.Endpoint = "https://sts.example.com/?Action=x" },
		"a path":              func(c *aws.Config) { c.Endpoint = "https://sts.example.com/x" },
		"no scheme":           func(c *aws.Config) { c.Endpoint = "sts.example.com" },
		"no source":           func(c *aws.Config) { c.Source = nil },
		"no role":             func(c *aws.Config) { c.RoleARN = "arn:aws:iam::1:role/x" },
		"a user for a role":   func(c *aws.Config) { c.RoleARN = "arn:aws:iam::123456789012:user/x" },
		"too short a maximum": func(c *aws.Config) { c.MaxDuration = 15*time.Minute - 1 },
		"too long a maximum":  func(c *aws.Config) { c.MaxDuration = 12*time.Hour + 1 },
		"a negative timeout":  func(c *aws.Config) { c.Timeout = -1 },
		"no CA file":          func(c *aws.Config) { c.CAFile = t.TempDir() + "/none" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			edit(&cfg)
			if _, err := aws.New(cfg); cred.KindOf(err) != cred.Invalid {
				t.Errorf("got %v, want kind invalid", err)
			}
		})
	}
}

// TestEndpoints holds the endpoints of regions against AWS' own rules.
func TestEndpoints(t *testing.T) {
	for _, region := range []string{
		"us-east-1", "eu-central-1", "ap-southeast-5", "mx-central-1", "cn-north-1", "us-gov-east-1", "us-iso-east-1",
		"us-isob-east-1", "us-isof-south-1", "eu-isoe-west-1", "eusc-de-east-1",
	} {
		want, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), sts.EndpointParameters{Region: &region})
		if err != nil {
			t.Fatal(err)
		}
		if got := aws.STSURL(region); got != want.URI.String()+"/" {
			t.Errorf("%s: %s, want %s/", region, got, want.URI.String())
		}
	}
}

// TestNothingSecretIsSaid: no error tells what was sent, although AWS quotes it.
func TestNothingSecretIsSaid(t *testing.T) {
	c := newCloud(t)
	sent := ""
	c.instead = func(w http.ResponseWriter, _ int) bool {
		sent = c.seen[len(c.seen)-1].Get("WebIdentityToken")
		c.fail(w, stsNS, 400, "InvalidIdentityToken", "bad token "+sent+"\x1b[31m")
		return true
	}
	_, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil))
	if text := fmt.Sprintf("%v %+v", err, err); sent == "" || strings.Contains(text, sent) || !strings.Contains(text, "bad token [redacted]") {
		t.Errorf("the error says %s", text)
	}
	c.instead, c.edit = nil, func(text string) string { return strings.Replace(text, "</Expiration>", "x</Expiration>", 1) }
	_, _, err = open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), nil))
	wantLost(t, err)
	for _, s := range c.sessions {
		if text := fmt.Sprintf("%+v", err); strings.Contains(text, s.secret) || strings.Contains(text, s.token) {
			t.Errorf("the error says %s", text)
		}
	}
}

// TestTLS: an endpoint of https is trusted by the CA that is configured and by no other.
func TestTLS(t *testing.T) {
	c := newCloud(t)
	srv := httptest.NewUnstartedServer(c)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	cfg := config(c)
	cfg.Endpoint, cfg.AllowPlain = srv.URL, false
	_, _, err := open(t, cfg).Issue(t.Context(), spec(inHalfAnHour(), nil))
	wantNotIssued(t, err, "")
	cfg.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(cfg.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err = open(t, cfg).Issue(t.Context(), spec(inHalfAnHour(), nil)); err != nil {
		t.Error(err)
	}
}

func wantLost(t *testing.T, err error) {
	t.Helper()
	if cred.KindOf(err) != cred.Unavailable || errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("got %v, want an error that leaves open whether a session was made", err)
	}
}

func wantNotIssued(t *testing.T, err error, reason string) {
	t.Helper()
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Unavailable || e.Reason != reason || !errors.Is(err, issuer.ErrNotIssued) {
		t.Errorf("got %v, want kind unavailable, ErrNotIssued and reason %q", err, reason)
	}
}

func wantInvalid(t *testing.T, err error, reason string) {
	t.Helper()
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Invalid || e.Reason != reason || e.Public == "" {
		t.Errorf("got %v, want kind invalid and reason %q", err, reason)
	}
}
