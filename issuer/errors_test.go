package issuer_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// TestLimited holds what the broker goes by: nothing was made, why, and when to ask again.
func TestLimited(t *testing.T) {
	e := issuer.Limited("x.issue", "later", time.Minute, io.EOF)
	if !errors.Is(e, issuer.ErrNotIssued) || !errors.Is(e, io.EOF) {
		t.Errorf("%v wraps too little", e)
	}
	if e.Kind != cred.Unavailable || e.Op != "x.issue" || e.Reason != "SOURCE_LIMITS" || e.Public != "later" || e.RetryAfter != time.Minute {
		t.Errorf("%+v", e)
	}
}

// TestParamErrors holds what a caller reads of a parameter that it sent, or did not.
func TestParamErrors(t *testing.T) {
	for want, err := range map[string]error{
		"the parameter scopes must be a list":                                     issuer.BadParam("x.issue", "scopes", errors.New("must be a list")),
		"this target needs the parameter scopes; send it with --param scopes=A,B": issuer.MissingParam("x.issue", "scopes", "A,B"),
		"the parameter scopes asks for more than this target has; ask for less":   issuer.BeyondTarget("x.issue", "scopes"),
	} {
		e, ok := errors.AsType[*cred.Error](err)
		if !ok || e.Public != want || e.Claim != "scopes" || e.Op != "x.issue" {
			t.Errorf("%+v, want %q", err, want)
		}
	}
	if err := issuer.BeyondTarget("x.issue", "scopes"); cred.KindOf(err) != cred.Denied {
		t.Errorf("%v is no refusal", err)
	}
}
