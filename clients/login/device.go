package login

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"

	"github.com/daypass-io/daypass/cred"
)

// What a device authorization means where it does not say, and how far its interval goes.
const (
	deviceLife      = 15 * time.Minute
	defaultInterval = 5 // seconds; RFC 8628, section 3.2
	maxInterval     = 60
)

// Device signs in on another device: it shows a code and a page, and asks the issuer until somebody
// has entered the code (RFC 8628). The page is never opened from here: whoever reads the code is to see
// where it is entered.
func (f Flow) Device(ctx context.Context) (Session, error) {
	i, err := discover(ctx, f.Client, f.Method)
	if err != nil {
		return Session{}, err
	}
	if i.Device == "" {
		return Session{}, fault(cred.Invalid, "NO_DEVICE_FLOW", nil, "the issuer %s does not sign in on other devices; use --browser where there is one, or forward the port that --port sets", f.Method.Issuer)
	}
	cfg, began := i.config(""), f.now()
	asked, err := cfg.DeviceAuth(i.with(ctx), f.reauthenticate()...)
	if err != nil {
		return Session{}, tokenError(f.Method.Issuer, err)
	}
	if err := checkDevice(asked); err != nil {
		return Session{}, fault(cred.Unavailable, "ISSUER_ANSWER", err, "the issuer %s gave no code that can be shown", f.Method.Issuer)
	}
	f.showCode(asked)
	tok, err := i.poll(ctx, cfg, asked)
	if err != nil {
		return Session{}, tokenError(f.Method.Issuer, err)
	}
	return i.session(ctx, tok, f.expect("", began))
}

// checkDevice refuses what can't be shown, and sets what the issuer left out. The interval is a second
// longer than the issuer says: some count from answer to question, and clocks of virtual machines run
// fast, so that whoever keeps to it exactly is told to slow down for ever.
func checkDevice(asked *oauth2.DeviceAuthResponse) error {
	if asked.DeviceCode == "" || asked.UserCode == "" || asked.VerificationURI == "" {
		return errors.New("a member is missing")
	}
	if !printable(asked.UserCode) {
		return errors.New("the code has characters that can't be shown")
	}
	for _, page := range []string{asked.VerificationURI, asked.VerificationURIComplete} {
		u, err := url.Parse(page)
		if page != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || !printable(page)) {
			return fmt.Errorf("%q is not a page", page)
		}
	}
	if asked.Expiry.IsZero() {
		asked.Expiry = time.Now().Add(deviceLife)
	}
	if asked.Interval < 1 {
		asked.Interval = defaultInterval
	}
	asked.Interval = min(asked.Interval+1, maxInterval)
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (f Flow) showCode(asked *oauth2.DeviceAuthResponse) {
	fmt.Fprintf(f.Out, "Open this page on any device:\n\n  %s\n\nand enter the code:\n\n  %s\n\n", asked.VerificationURI, asked.UserCode)
	if asked.VerificationURIComplete != "" {
		fmt.Fprintf(f.Out, "Or open this page, and check that it shows the same code:\n\n  %s\n\n", asked.VerificationURIComplete)
	}
}

// poll asks until the issuer has decided. Package oauth2 keeps to the interval and slows down where the
// issuer says so; where the issuer does not answer, the interval doubles (RFC 8628, section 3.5).
func (i *issuer) poll(ctx context.Context, cfg *oauth2.Config, asked *oauth2.DeviceAuthResponse) (*oauth2.Token, error) {
	for {
		tok, err := cfg.DeviceAccessToken(i.with(ctx), asked)
		_, refused := errors.AsType[*oauth2.RetrieveError](err)
		switch {
		case err == nil || refused:
			return tok, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !time.Now().Before(asked.Expiry):
			return nil, context.DeadlineExceeded
		}
		asked.Interval = min(2*asked.Interval, maxInterval)
	}
}
