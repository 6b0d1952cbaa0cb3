package vault_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/daypass-io/daypass/issuer"
)

// fakeAWS answers as IAM and STS do, in the query protocol, for one user with access keys
// (https://docs.aws.amazon.com/IAM/latest/APIReference and .../STS/latest/APIReference). It looks at
// which key signs a request, not at the signature. It is an issuer.KeyLister.
type fakeAWS struct {
	*httptest.Server
	mu      sync.Mutex // owns what follows
	keys    []issuer.AccessKey
	unknown int    // how many requests to STS find the newest key unknown
	fail    string // the action whose next request fails
	lost    bool   // it is done, and the answer is lost; else it is refused with 500
}

func newFakeAWS(t *testing.T) *fakeAWS {
	f := &fakeAWS{}
	f.fresh()
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// fresh leaves the user with one new key.
func (f *fakeAWS) fresh() issuer.AccessKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys, f.unknown, f.fail = nil, 0, ""
	return f.newKey()
}

func (f *fakeAWS) newKey() issuer.AccessKey {
	k := issuer.AccessKey{ID: "AKIA" + rand.Text()[:16], Created: time.Now(), Active: true}
	f.keys = append(f.keys, k)
	return k
}

func (f *fakeAWS) set(change func(*fakeAWS)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// List implements issuer.KeyLister.
func (f *fakeAWS) List(context.Context) ([]issuer.AccessKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.keys), nil
}

// Delete implements issuer.KeyLister.
func (f *fakeAWS) Delete(_ context.Context, id string) error {
	f.set(func(f *fakeAWS) { f.delete(id) })
	return nil
}

func (f *fakeAWS) delete(id string) {
	f.keys = slices.DeleteFunc(f.keys, func(k issuer.AccessKey) bool { return k.ID == id })
}

var signedBy = regexp.MustCompile(`Credential=([A-Z0-9]+)/\d{8}/[^/]+/(iam|sts)/aws4_request`)

func (f *fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	action := r.FormValue("Action")
	by := signedBy.FindStringSubmatch(r.Header.Get("Authorization"))
	if by == nil || !f.knows(by[1], by[2]) {
		refuse(w, http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
		return
	}
	failed := f.fail == action
	if failed {
		f.fail = ""
	}
	if failed && !f.lost {
		refuse(w, http.StatusInternalServerError, "ServiceFailure", "The request processing has failed because of an unknown error.")
		return
	}
	result, ok := f.act(action, r.FormValue("AccessKeyId"))
	switch {
	case failed:
		conn, _, _ := http.NewResponseController(w).Hijack()
		_ = conn.Close()
	case !ok:
		refuse(w, http.StatusConflict, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2")
	default:
		_, _ = fmt.Fprintf(w, `<%sResponse><%sResult>%s</%sResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></%sResponse>`, action, action, result, action, action)
	}
}

// knows reports whether a service knows a key: STS may not know the newest yet.
func (f *fakeAWS) knows(id, service string) bool {
	n := slices.IndexFunc(f.keys, func(k issuer.AccessKey) bool { return k.ID == id && k.Active })
	if n == len(f.keys)-1 && service == "sts" && f.unknown > 0 {
		f.unknown--
		return false
	}
	return n >= 0
}

func (f *fakeAWS) act(action, key string) (result string, ok bool) {
	switch action {
	case "GetUser":
		return `<User><Path>/</Path><UserName>vault</UserName><UserId>AIDAX</UserId><Arn>arn:aws:iam::123456789012:user/vault</Arn></User>`, true
	case "CreateAccessKey":
		if len(f.keys) == 2 {
			return "", false
		}
		return fmt.Sprintf(`<AccessKey><UserName>vault</UserName><AccessKeyId>%s</AccessKeyId><Status>Active</Status><SecretAccessKey>%s</SecretAccessKey></AccessKey>`, f.newKey().ID, rand.Text()+rand.Text()), true
	case "DeleteAccessKey":
		f.delete(key)
		return "", true
	case "GetCallerIdentity":
		return `<Arn>arn:aws:iam::123456789012:user/vault</Arn><UserId>AIDAX</UserId><Account>123456789012</Account>`, true
	case "AssumeRole":
		return fmt.Sprintf(`<Credentials><AccessKeyId>ASIA%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/deploy/s</Arn><AssumedRoleId>AROAX:s</AssumedRoleId></AssumedRoleUser>`,
			rand.Text()[:16], rand.Text(), strings.Repeat(rand.Text(), 8), time.Now().Add(15*time.Minute).UTC().Format(time.RFC3339)), true
	}
	return "", false
}

func refuse(w http.ResponseWriter, code int, name, message string) {
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>r</RequestId></ErrorResponse>`, name, message)
}
