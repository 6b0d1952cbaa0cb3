package aws_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/cred"
)

// TestShortGrantEndsItsSession holds that a session of a grant of less than 15 minutes denies everything from
// the grant's end on, and allows before it what the target does and no more.
func TestShortGrantEndsItsSession(t *testing.T) {
	const (
		get  = `{"Action":"s3:GetObject","Effect":"Allow","Resource":"*"}`
		list = `{"Action":"s3:ListBucket","Effect":"Allow","Resource":"*"}`
		all  = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	)
	for name, tc := range map[string]struct {
		params map[string]string
		want   string // END stands for the statement that denies
	}{
		"no policy":         {nil, `{"Statement":[` + all + `,END],"Version":"2012-10-17"}`},
		"one statement":     {map[string]string{"policy": `{"Statement": ` + get + `}`}, `{"Statement":[` + get + `,END]}`},
		"a list":            {map[string]string{"policy": `{"Version":"2012-10-17","Statement":[` + get + `,` + list + `]}`}, `{"Statement":[` + get + `,` + list + `,END],"Version":"2012-10-17"}`},
		"an empty list":     {map[string]string{"policy": `{"Statement":[]}`}, `{"Statement":[END]}`},
		"managed policies":  {map[string]string{"policy_arns": "arn:aws:iam::aws:policy/ReadOnlyAccess"}, `{"Statement":[END],"Version":"2012-10-17"}`},
		"managed and a one": {map[string]string{"policy_arns": "arn:aws:iam::aws:policy/ReadOnlyAccess", "policy": `{"Statement":` + get + `}`}, `{"Statement":[` + get + `,END]}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			s := spec(time.Now().Add(5*time.Minute), tc.params)
			got, l, err := open(t, config(c)).Issue(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			deny := `{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateGreaterThanEquals":{"aws:CurrentTime":"` + s.NotAfter.UTC().Format("2006-01-02T15:04:05Z") + `"}}}`
			if diff := cmp.Diff(strings.Replace(tc.want, "END", deny, 1), c.only(t).policy); diff != "" {
				t.Error(diff)
			}
			if !got.NotAfter.Equal(s.NotAfter) || !l.NotAfter.After(s.NotAfter) {
				t.Errorf("the credential is of use until %v and the session lives until %v, the grant ends at %v", got.NotAfter, l.NotAfter, s.NotAfter)
			}
		})
	}
}

// TestLongPolicyOfAShortGrant holds that a policy which leaves no room for the end is refused, not sent
// without it.
func TestLongPolicyOfAShortGrant(t *testing.T) {
	c := newCloud(t)
	policy := map[string]string{"policy": `{"Statement":{"Effect":"Allow","Action":"` + strings.Repeat("s", 1950) + `","Resource":"*"}}`}
	_, _, err := open(t, config(c)).Issue(t.Context(), spec(time.Now().Add(5*time.Minute), policy))
	if e, ok := errors.AsType[*cred.Error](err); !ok || e.Kind != cred.Invalid || e.Reason != "POLICY_TOO_LARGE" || len(c.seen) != 0 {
		t.Errorf("%v after %d requests", err, len(c.seen))
	}
	if _, _, err := open(t, config(c)).Issue(t.Context(), spec(inHalfAnHour(), policy)); err != nil {
		t.Errorf("of a longer grant: %v", err)
	}
}
