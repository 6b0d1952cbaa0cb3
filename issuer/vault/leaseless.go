package vault

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/issuer"
)

// leasing are the engines that give a lease with whatever they make under creds/, and whose credentials
// end with it.
var leasing = []string{"database", "rabbitmq", "consul", "nomad", "mongodbatlas", "azure", "ldap", "openldap", "ssh"}

// endsWithToken reports whether all that an engine makes at a path surely ends with the token that asked.
// Of an engine that is not known, nobody knows.
func endsWithToken(engine, at string) bool {
	return slices.Contains(leasing, engine) && path.Base(path.Dir(at)) == "creds" && !strings.Contains("/"+at, "/static-cred")
}

// longestGCP is how long Google lets an access token live at the most
// (https://cloud.google.com/iam/docs/create-short-lived-credentials-direct#sa-credentials-oauth).
const longestGCP = 12 * time.Hour

// shortest is how long what an engine makes may live although less was asked for; zero where it lives
// no longer than was asked, or nobody knows.
func shortest(engine string) time.Duration {
	if engine == "gcp" { // which is asked for no time at all
		return longestGCP
	}
	return engineTTL(engine, 0)
}

// maxTTL is a life, in seconds, that no source grants; longer ones are taken for it.
const maxTTL = int64(100 * 365 * 24 * time.Hour / time.Second)

// askedTTL is the life that a target's own parameter asks for, in whole seconds, in one of Vault's forms:
// 3600, 90m, 30d. It is zero where it asks for none, or for what Vault takes for none.
func askedTTL(params map[string]string) int64 {
	ttl := params["ttl"]
	seconds, err := strconv.ParseInt(ttl, 10, 64)
	if days, ok := strings.CutSuffix(ttl, "d"); ok {
		seconds, _ = strconv.ParseInt(days, 10, 32)
		seconds *= int64(24 * time.Hour / time.Second)
	} else if err != nil {
		life, _ := time.ParseDuration(ttl)
		seconds = int64(life / time.Second)
	}
	return min(max(seconds, 0), maxTTL)
}

// latest returns the last end of what may have been made with a reservation's token, which is seen to be
// gone at an instant, or is gone by its own end. A life that was asked for counts from when Vault gets to
// it, and that may be as late as a request may take.
func (h handle) latest(gone time.Time) time.Time {
	asked := time.Unix(h.End, 0) // with the grant
	if h.End > 0 && asked.Before(gone) {
		gone = asked
	}
	end := gone.Add(max(time.Duration(h.TTL)*time.Second, shortest(h.Engine)))
	if asked.After(end) {
		end = asked
	}
	return end.Add(mintTimeout)
}

// livesOn tells with an error of Revoke how long what a reservation has made may live, where its token does
// not end it.
func (h handle) livesOn(err error) error {
	if err == nil || h.Lease != "" || endsWithToken(h.Engine, h.Path) {
		return err
	}
	return &issuer.LivesError{Until: h.latest(time.Now()), Err: err}
}

// endKnown are the engines that were asked for an end, or whose longest life is known.
var endKnown = []string{"pki", "ssh", "aws", "kubernetes", "gcp"}

// errMayLive says that a reservation may have made what its token does not end.
func (h handle) errMayLive() error {
	public := "Vault has ended this lease's token and all that hangs on it; if something was made that Vault keeps no lease on, or that outlives its lease, such as a certificate or a token of a cloud, it stays valid until its own end"
	if !slices.Contains(endKnown, h.Engine) {
		public += ", which the broker does not know"
	}
	return &cred.Error{Kind: cred.Invalid, Op: "vault.revoke", Reason: "NOT_REVOCABLE", Public: public}
}
