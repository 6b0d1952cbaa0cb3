package aws_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred/token"
)

const (
	account   = "123456789012"
	roleName  = "deploy"
	role      = "arn:aws:iam::" + account + ":role/ci/" + roleName
	audience  = "sts.amazonaws.com"
	brokerURL = "https://daypass.example.com"
	subject   = "daypass-broker"
	region    = "eu-central-1"
	stsNS     = "https://sts.amazonaws.com/doc/2011-06-15/"
	iamNS     = "https://iam.amazonaws.com/doc/2010-05-08/"
)

// made is a session that the fake made.
type made struct {
	secret, token, name, source, policy string
	policyARNs                          []string
	tags                                map[string][]string
	transitive                          []string
	ends                                time.Time
}

type accessKey struct {
	secret  string
	status  string
	created time.Time
}

// cloud is STS and IAM of one account that trusts a key ring. It speaks the query protocol alone, as STS
// does to who asks for XML.
type cloud struct {
	*httptest.Server
	ring *token.KeyRing

	mu          sync.Mutex // owns what follows
	sessions    map[string]made
	users       map[string]map[string]accessKey
	isRoot      map[string]bool // users that are root
	longest     time.Duration   // the role's maximum session duration
	ahead       time.Duration   // of the fake's clock
	mayTag      bool            // sts:TagSession
	maySource   bool            // sts:SetSourceIdentity
	longTokens  int             // bytes of session tokens
	pageSize    int
	edit        func(string) string                     // changes an answer before it is sent
	instead     func(w http.ResponseWriter, n int) bool // answers the nth request of a mint instead
	minted      int
	seen        []url.Values
	seenHeaders []http.Header
}

func newCloud(t testing.TB) *cloud {
	ring, err := token.NewKeyRing(token.ES256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{
		ring: ring, sessions: map[string]made{}, users: map[string]map[string]accessKey{}, isRoot: map[string]bool{},
		longest: time.Hour, mayTag: true, maySource: true, longTokens: 700, pageSize: 100,
	}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) now() time.Time { return time.Now().Add(c.ahead) }

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	form, err := url.ParseQuery(string(body))
	w.Header().Set("X-Amzn-Requestid", "c6104cbe-af31-11e0-8154-cbc7ccf896c7")
	w.Header().Set("Date", c.now().UTC().Format(http.TimeFormat))
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/" || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		c.fail(w, stsNS, 400, "MalformedQueryString", "The query string contains a syntax error")
		return
	}
	c.seen, c.seenHeaders = append(c.seen, form), append(c.seenHeaders, r.Header)
	switch form.Get("Version") + " " + form.Get("Action") {
	case "2011-06-15 AssumeRoleWithWebIdentity":
		c.assume(w, r, form)
	case "2011-06-15 GetCallerIdentity":
		c.callerIdentity(w, r, body)
	case "2010-05-08 ListAccessKeys", "2010-05-08 DeleteAccessKey", "2010-05-08 GetUser":
		c.iam(w, r, form, body)
	default:
		c.fail(w, stsNS, 400, "InvalidAction", "Could not find operation "+form.Get("Action"))
	}
}

func (c *cloud) fail(w http.ResponseWriter, space string, status int, code, message string) {
	var text strings.Builder
	_ = xml.EscapeText(&text, []byte(message))
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<ErrorResponse xmlns=%q>\n  <Error>\n    <Type>Sender</Type>\n    <Code>%s</Code>\n    <Message>%s</Message>\n  </Error>\n  <RequestId>c6104cbe</RequestId>\n</ErrorResponse>\n", space, code, text.String())
}

func (c *cloud) assume(w http.ResponseWriter, r *http.Request, form url.Values) {
	c.minted++
	if c.instead != nil && c.instead(w, c.minted) {
		return
	}
	s, status, code, message := c.admit(r, form)
	if code != "" {
		c.fail(w, stsNS, status, code, message)
		return
	}
	id := "ASIA" + rand.Text()[:16]
	c.sessions[id] = s
	text := fmt.Sprintf(`<AssumeRoleWithWebIdentityResponse xmlns="%s">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>%s</SubjectFromWebIdentityToken>
    <Audience>%s</Audience>
    <AssumedRoleUser>
      <Arn>arn:aws:sts::%s:assumed-role/%s/%s</Arn>
      <AssumedRoleId>AROACLKWSDQRAOEXAMPLE:%s</AssumedRoleId>
    </AssumedRoleUser>
    <Credentials>
      <SessionToken>%s</SessionToken>
      <SecretAccessKey>%s</SecretAccessKey>
      <Expiration>%s</Expiration>
      <AccessKeyId>%s</AccessKeyId>
    </Credentials>
    <SourceIdentity>%s</SourceIdentity>
    <PackedPolicySize>6</PackedPolicySize>
    <Provider>arn:aws:iam::%s:oidc-provider/daypass.example.com</Provider>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata>
    <RequestId>ad4156e9-bce1-11e2-82e6-6b6efEXAMPLE</RequestId>
  </ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>
`, stsNS, subject, audience, account, roleName, s.name, s.name, s.token, s.secret, s.ends.UTC().Format(time.RFC3339), id, s.source, account)
	if c.edit != nil {
		text = c.edit(text)
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = io.WriteString(w, text)
}

// admit holds a request against the API's bounds, the provider and the role's trust policy.
func (c *cloud) admit(r *http.Request, form url.Values) (s made, status int, code, message string) {
	no := func(status int, code, message string) (made, int, string, string) {
		return made{}, status, code, message
	}
	seconds, err := strconv.Atoi(form.Get("DurationSeconds"))
	life, n := time.Duration(seconds)*time.Second, len(form.Get("WebIdentityToken"))
	name := form.Get("RoleSessionName")
	switch {
	case r.Header.Get("Authorization") != "":
		return no(403, "IncompleteSignature", "the call is not signed")
	case r.Header.Get("Accept") != "text/xml" && !strings.Contains(r.UserAgent(), "aws-sdk-go"):
		return no(400, "InvalidAction", "the fake has no JSON")
	case n < 4 || n > 20000 || utf8.RuneCountInString(form.Get("Policy")) > 2048 || err != nil || life < 15*time.Minute || life > 12*time.Hour || len(name) < 2 || len(name) > 64:
		return no(400, "ValidationError", "1 validation error detected")
	case life > c.longest:
		return no(400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	case form.Get("Policy") != "" && !json.Valid([]byte(form.Get("Policy"))):
		return no(400, "MalformedPolicyDocument", "This policy contains invalid Json")
	case form.Get("RoleArn") != role:
		return no(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
	claims, err := c.verify(form.Get("WebIdentityToken"))
	switch {
	case err != nil && strings.Contains(err.Error(), jwt.ErrTokenExpired.Error()):
		return no(400, "ExpiredTokenException", "Token expired: current date/time must be before the expiration date/time")
	case err != nil:
		return no(400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT. "+err.Error())
	case claims.Source != "" && !c.maySource || claims.Tags.Principal != nil && !c.mayTag:
		return no(403, "AccessDenied", "Not authorized to perform sts:TagSession")
	}
	size := utf8.RuneCountInString(form.Get("Policy"))
	for name, values := range claims.Tags.Principal {
		if len(values) != 1 || utf8.RuneCountInString(name) > 128 || utf8.RuneCountInString(values[0]) > 256 {
			return no(400, "InvalidIdentityToken", "bad tags")
		}
		size += len(name) + len(values[0])
	}
	if size > 2600 {
		return no(400, "PackedPolicyTooLarge", "Packed size of session tags consumes 127% of allotted space.")
	}
	s = made{
		secret: rand.Text() + "/" + rand.Text(), token: strings.Repeat("IQoJ+/", c.longTokens/6) + rand.Text() + "==", name: name,
		source: claims.Source, policy: form.Get("Policy"), tags: claims.Tags.Principal, transitive: claims.Tags.Transitive, ends: c.now().Add(life),
	}
	for n := 1; form.Has(fmt.Sprintf("PolicyArns.member.%d.arn", n)); n++ {
		s.policyARNs = append(s.policyARNs, form.Get(fmt.Sprintf("PolicyArns.member.%d.arn", n)))
	}
	return s, 200, "", ""
}

type webIdentity struct {
	jwt.RegisteredClaims
	Source string `json:"https://aws.amazon.com/source_identity"`
	Tags   struct {
		Principal  map[string][]string `json:"principal_tags"`
		Transitive []string            `json:"transitive_tag_keys"`
	} `json:"https://aws.amazon.com/tags"`
}

// verify checks an ID token as AWS does: by the provider's keys, audience and issuer, with the algorithms
// that AWS knows. AWS takes no EdDSA.
func (c *cloud) verify(text string) (webIdentity, error) {
	var claims webIdentity
	_, err := jwt.ParseWithClaims(text, &claims, func(tok *jwt.Token) (any, error) {
		kid, _ := tok.Header["kid"].(string)
		return c.ring.Key(context.Background(), kid, tok.Method.Alg())
	}, jwt.WithValidMethods([]string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"}), jwt.WithAudience(audience),
		jwt.WithIssuer(brokerURL), jwt.WithSubject(subject), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(c.now))
	return claims, err
}

func (c *cloud) callerIdentity(w http.ResponseWriter, r *http.Request, body []byte) {
	id, _, _ := strings.Cut(cutFrom(r.Header.Get("Authorization"), "Credential="), "/")
	s, ok := c.sessions[id]
	switch {
	case !ok || r.Header.Get("X-Amz-Security-Token") != s.token:
		c.fail(w, stsNS, 403, "InvalidClientTokenId", "The security token included in the request is invalid.")
		return
	case !c.now().Before(s.ends):
		c.fail(w, stsNS, 403, "ExpiredToken", "The security token included in the request is expired")
		return
	case !signed(r, body, s.secret, region, "sts"):
		c.fail(w, stsNS, 403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="%s"><GetCallerIdentityResult><Arn>arn:aws:sts::%s:assumed-role/%s/%s</Arn><UserId>AROACLKWSDQRAOEXAMPLE:%s</UserId><Account>%s</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>x</RequestId></ResponseMetadata></GetCallerIdentityResponse>`,
		stsNS, account, roleName, s.name, s.name, account)
}

func (c *cloud) iam(w http.ResponseWriter, r *http.Request, form url.Values, body []byte) {
	id, _, _ := strings.Cut(cutFrom(r.Header.Get("Authorization"), "Credential="), "/")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	caller, key := c.owner(id)
	switch {
	case caller == "" || key.status != "Active":
		c.fail(w, iamNS, 403, "InvalidClientTokenId", "The security token included in the request is invalid.")
		return
	case err != nil || !signed(r, body, key.secret, "us-east-1", "iam"):
		c.fail(w, iamNS, 403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. "+
			"The Canonical String should have been x-amz-security-token:"+r.Header.Get("X-Amz-Security-Token"))
		return
	case c.now().Sub(at).Abs() > 5*time.Minute:
		c.fail(w, iamNS, 403, "SignatureDoesNotMatch", "Signature expired: "+at.String()+" is now earlier than "+c.now().String())
		return
	}
	user := form.Get("UserName")
	if user == "" {
		user = caller
	}
	keys, ok := c.users[user]
	if !ok {
		c.fail(w, iamNS, 404, "NoSuchEntity", "The user with name "+user+" cannot be found.")
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	switch action := form.Get("Action"); action {
	case "GetUser":
		named, arn := "<UserName>"+user+"</UserName>", ":user/"+user
		if c.isRoot[user] {
			named, arn = "", ":root"
		}
		c.reply(w, action, "<User><UserId>AIDAEXAMPLE</UserId>"+named+"<Arn>arn:aws:iam::"+account+arn+"</Arn><CreateDate>2012-09-19T23:03:07Z</CreateDate></User>")
	case "ListAccessKeys":
		c.reply(w, action, c.page(user, keys, form.Get("Marker")))
	case "DeleteAccessKey":
		if _, ok := keys[form.Get("AccessKeyId")]; !ok {
			c.fail(w, iamNS, 404, "NoSuchEntity", "The Access Key with id "+form.Get("AccessKeyId")+" cannot be found.")
			return
		}
		delete(keys, form.Get("AccessKeyId"))
		c.reply(w, action, "")
	}
}

func (c *cloud) reply(w io.Writer, action, result string) {
	if result != "" {
		result = "<" + action + "Result>" + result + "</" + action + "Result>"
	}
	text := "<" + action + `Response xmlns="` + iamNS + `">` + result + "<ResponseMetadata><RequestId>7a62c49f</RequestId></ResponseMetadata></" + action + "Response>"
	if c.edit != nil {
		text = c.edit(text)
	}
	_, _ = io.WriteString(w, text)
}

// page is one page of a user's keys, in the order of their IDs.
func (c *cloud) page(user string, keys map[string]accessKey, marker string) string {
	var ids []string
	for id := range keys {
		if id > marker {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	truncated, next := false, ""
	if len(ids) > c.pageSize {
		ids, truncated = ids[:c.pageSize], true
		next = "<Marker>" + ids[c.pageSize-1] + "</Marker>"
	}
	var members strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&members, "<member><UserName>%s</UserName><AccessKeyId>%s</AccessKeyId><Status>%s</Status><CreateDate>%s</CreateDate></member>",
			user, id, keys[id].status, keys[id].created.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("<UserName>%s</UserName><AccessKeyMetadata>%s</AccessKeyMetadata><IsTruncated>%v</IsTruncated>%s", user, members.String(), truncated, next)
}

func (c *cloud) owner(id string) (string, accessKey) {
	for name, keys := range c.users {
		if key, ok := keys[id]; ok {
			return name, key
		}
	}
	return "", accessKey{}
}

// signed checks Signature Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html)
// without the SDK's help.
func signed(r *http.Request, body []byte, secret, region, service string) bool {
	auth, date := r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date")
	names, _, _ := strings.Cut(cutFrom(auth, "SignedHeaders="), ",")
	if len(date) < 8 || !slices.Contains(strings.Split(names, ";"), "host") {
		return false
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(names, ";") {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.Itoa(len(body))
		}
		headers.WriteString(name + ":" + value + "\n")
	}
	canonical := strings.Join([]string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, headers.String(), names, hash(body)}, "\n")
	scope := strings.Join([]string{date[:8], region, service, "aws4_request"}, "/")
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	want := hex.EncodeToString(mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, hash([]byte(canonical))}, "\n")))
	return strings.Contains(auth, "/"+scope+",") && cutFrom(auth, "Signature=") == want
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	_, _ = m.Write([]byte(text))
	return m.Sum(nil)
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func cutFrom(text, after string) string {
	_, rest, _ := strings.Cut(text, after)
	return rest
}

// alive counts the sessions that have not ended.
func (c *cloud) alive() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		if c.now().Before(s.ends) {
			n++
		}
	}
	return n
}

// only returns the one session that was made.
func (c *cloud) only(t *testing.T) made {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sessions) != 1 {
		t.Fatalf("%d sessions, want one", len(c.sessions))
	}
	for _, s := range c.sessions {
		return s
	}
	return made{}
}
