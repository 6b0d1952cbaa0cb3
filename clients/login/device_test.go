package login_test

import (
	"bytes"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/daypass-io/daypass/clients/login"
	"github.com/daypass-io/daypass/clients/login/logintest"
	"github.com/daypass-io/daypass/cred"
)

// unserved returns a provider without a network and a flow to it, for bubbles of synctest.
func unserved(out *bytes.Buffer) (*logintest.Provider, login.Flow) {
	p := logintest.Unserved("https://idp.example.com")
	return p, login.Flow{Method: method(p), Client: login.NewClient(p.Transport()), Out: out}
}

func TestDeviceSignsIn(t *testing.T) {
	for _, style := range []logintest.DeviceStyle{logintest.DeviceRFC, logintest.DeviceGitHub, logintest.DeviceGoogle} {
		t.Run("style "+string(style), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said bytes.Buffer
				p, f := unserved(&said)
				p.Set(func(b *logintest.Behaviour) { b.Device = style })
				began := time.Now()
				time.AfterFunc(44*time.Second, func() {
					code := regexp.MustCompile(`(?m)^  ([A-Z2-7]{4}-[A-Z2-7]{4})$`).FindStringSubmatch(said.String())
					if code == nil || !p.Enter(code[1]) {
						t.Errorf("no code is shown that the provider takes:\n%s", said.String())
					}
				})
				s, err := f.Device(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if s.Subject != "ann" || s.Refresh.IsZero() {
					t.Errorf("session %+v", s)
				}
				if took := time.Since(began); took != 48*time.Second {
					t.Errorf("it took %v, want the next poll after 44 s at intervals of 5 s and one", took)
				}
				if n := p.Count("urn:ietf:params:oauth:grant-type:device_code"); n != 8 {
					t.Errorf("%d polls, want 8", n)
				}
				if !strings.Contains(said.String(), "https://idp.example.com/device\n") {
					t.Errorf("the page is not shown:\n%s", said.String())
				}
			})
		})
	}
}

// TestDeviceSlowsDown: after slow_down the interval is five seconds longer, for good.
func TestDeviceSlowsDown(t *testing.T) {
	for _, style := range []logintest.DeviceStyle{logintest.DeviceRFC, logintest.DeviceGitHub, logintest.DeviceGoogle} {
		synctest.Test(t, func(t *testing.T) {
			var said bytes.Buffer
			p, f := unserved(&said)
			// It says 1 s, of which we make 2, and means 4. From then on it is 7.
			p.Set(func(b *logintest.Behaviour) { b.Device, b.Interval, b.Stricter = style, 1, 3 })
			time.AfterFunc(60*time.Second, func() { p.Enter("") })
			began := time.Now()
			if _, err := f.Device(t.Context()); err != nil {
				t.Fatalf("%q: %v", style, err)
			}
			if early := p.Count("slow_down"); early != 1 {
				t.Errorf("%q: told to slow down %d times, want once", style, early)
			}
			if took, want := time.Since(began), (2+9*7)*time.Second; took != want {
				t.Errorf("%q: it took %v, want %v", style, took, want)
			}
		})
	}
}

func TestDeviceEnds(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*logintest.Behaviour)
		after  time.Duration // when somebody decides
		reason string
		took   time.Duration
	}{
		"denied":            {func(b *logintest.Behaviour) { b.Deny = true }, 7 * time.Second, "LOGIN_DENIED", 12 * time.Second},
		"expired":           {func(*logintest.Behaviour) {}, time.Hour, "LOGIN_EXPIRED", 5 * time.Minute},
		"no device flow":    {func(b *logintest.Behaviour) { b.NoDevice = true }, time.Hour, "NO_DEVICE_FLOW", 0},
		"endpoint is down":  {fail("/device_authorization", 503), time.Hour, "ISSUER_ANSWER", 0},
		"token is no token": {claim("aud", "other"), 7 * time.Second, "ID_TOKEN_REFUSED", 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said bytes.Buffer
				p, f := unserved(&said)
				p.Set(c.change)
				time.AfterFunc(c.after, func() { p.Enter("") })
				began := time.Now()
				_, err := f.Device(t.Context())
				if e, ok := errors.AsType[*cred.Error](err); !ok || e.Reason != c.reason {
					t.Errorf("got %v, want %s", err, c.reason)
				}
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
			})
		})
	}
}

// TestDeviceOutlivesAnOutage: an issuer that does not answer for a while is asked less often, and the
// sign-in goes on.
func TestDeviceOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		p, f := unserved(&said)
		time.AfterFunc(7*time.Second, func() { p.Set(fail("/token", -1)) })
		time.AfterFunc(60*time.Second, func() { p.Set(func(b *logintest.Behaviour) { b.Fail = nil }); p.Enter("") })
		if _, err := f.Device(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := p.Count("/token"); n > 6 {
			t.Errorf("%d polls, of which the outage should have had few", n)
		}
	})
}

func TestDeviceFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		p, f := unserved(&said)
		p.SignInEarlier(time.Now().Add(-time.Hour))
		f.Fresh = true
		time.AfterFunc(7*time.Second, func() { p.Enter("") })
		if s, err := f.Device(t.Context()); err != nil || time.Since(s.AuthTime) > time.Minute {
			t.Errorf("signed in at %v (%v)", s.AuthTime, err)
		}
	})
}

// TestDeviceShowsNoControls: what an issuer sends can't steer the terminal.
func TestDeviceShowsNoControls(t *testing.T) {
	for name, body := range map[string]string{
		"in the code":        `{"device_code":"d","user_code":"A\u001b[2J","verification_uri":"https://idp.example.com/d","expires_in":60}`,
		"in the page":        `{"device_code":"d","user_code":"A","verification_uri":"https://idp.example.com/\u009b2J","expires_in":60}`,
		"a page of the host": `{"device_code":"d","user_code":"A","verification_uri":"file:///etc/passwd","expires_in":60}`,
		"no code":            `{"device_code":"d","verification_uri":"https://idp.example.com/d","expires_in":60}`,
	} {
		var said bytes.Buffer
		p, f := unserved(&said)
		f.Client = login.NewClient(instead{p.Transport(), "/device_authorization", body})
		_, err := f.Device(t.Context())
		if e, ok := errors.AsType[*cred.Error](err); !ok || e.Reason != "ISSUER_ANSWER" || said.Len() > 0 {
			t.Errorf("%s: %v, and %q was shown", name, err, said.String())
		}
	}
}

// instead answers one path with a body of its own.
type instead struct {
	next http.RoundTripper
	path string
	body string
}

func (i instead) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != i.path {
		return i.next.RoundTrip(r)
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: readCloser{strings.NewReader(i.body)}, Request: r,
	}, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }
