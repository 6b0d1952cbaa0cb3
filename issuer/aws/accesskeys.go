package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
	"github.com/daypass-io/daypass/issuer"
)

const (
	iamVersion = "2010-05-08"
	iamSpace   = "https://iam.amazonaws.com/doc/2010-05-08/"
	// maxPages bounds how many answers a list of keys may take. IAM gives a user two keys, which is one.
	maxPages = 4
)

var userName = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)

// KeysConfig says whose access keys to look after. One of Region and Endpoint is needed.
type KeysConfig struct {
	Region     string // any region of the cloud; IAM has one endpoint for all of them
	Endpoint   string // https URL of IAM; empty: that of Region's cloud
	AllowPlain bool   // permit an http Endpoint on loopback addresses
	CAFile     string // PEM certificates to trust; empty: the system's

	User string // whose keys; empty: those of the user that Credentials belong to
	// Credentials gives what the requests are signed with, of type aws, for each request. They may
	// iam:ListAccessKeys and iam:DeleteAccessKey and, where User is empty, iam:GetUser.
	Credentials func(ctx context.Context) (cred.Credential, error)

	Timeout time.Duration // for one request; zero: 10 s
}

// AccessKeys are the access keys of one user of IAM
// (https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListAccessKeys.html). It is an
// issuer.KeyLister, safe for concurrent use.
type AccessKeys struct {
	cfg    KeysConfig
	iam    *endpoint
	signer *v4.Signer
}

// NewAccessKeys returns an AccessKeys that has asked nothing yet. It fails with kind Invalid where the
// configuration can't work.
func NewAccessKeys(cfg KeysConfig) (*AccessKeys, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if err := checkPlace(cfg.Region, cfg.Endpoint, cfg.AllowPlain); err != nil {
		return nil, err
	}
	switch {
	case cfg.Credentials == nil:
		return nil, invalidConfig("IAM needs credentials to sign requests with", "no Credentials")
	case cfg.User != "" && !userName.MatchString(cfg.User):
		return nil, invalidConfig("user must be the name of a user of IAM", "bad user")
	case cfg.Timeout < 0:
		return nil, invalidConfig("the timeout can't be negative", "negative duration")
	}
	url := cfg.Endpoint
	if url == "" {
		url = "https://" + partitionOf(cfg.Region).iam + "/"
	}
	iam, err := newEndpoint(url, cfg.CAFile, cfg.Timeout)
	if err != nil {
		return nil, err
	}
	return &AccessKeys{cfg: cfg, iam: iam, signer: v4.NewSigner()}, nil
}

// Close closes idle connections.
func (k *AccessKeys) Close() error {
	k.iam.client.HTTP.CloseIdleConnections()
	return nil
}

// List returns all keys of the user, the oldest first.
func (k *AccessKeys) List(ctx context.Context) ([]issuer.AccessKey, error) {
	user, err := k.User(ctx)
	if err != nil {
		return nil, err
	}
	return k.list(ctx, user)
}

// Delete ends a key. The key that signs the request itself is refused with kind Conflict: without it
// nobody could mend what follows.
func (k *AccessKeys) Delete(ctx context.Context, id string) error {
	if !keyID.MatchString(id) {
		return &cred.Error{Kind: cred.Invalid, Op: "aws.keys", Public: "this is no ID of an access key", Err: errors.New("aws: bad key ID")}
	}
	user, err := k.User(ctx)
	if err != nil {
		return err
	}
	form := url.Values{"UserName": {user}, "AccessKeyId": {id}}
	_, err = k.ask(ctx, "DeleteAccessKey", form, func(c aws.Credentials) error {
		if c.AccessKeyID == id {
			return &cred.Error{Kind: cred.Conflict, Op: "aws.keys", Public: publicOwnKey, Err: errors.New("aws: the key signs its own end")}
		}
		return nil
	})
	if cred.KindOf(err) != cred.NotFound {
		return err
	}
	// The user may be missing and not the key: the same code says both.
	_, err = k.list(ctx, user)
	return err
}

// User returns the name of the user whose keys these are. It refuses the root user of an account with
// kind Invalid, where the configuration names no user.
func (k *AccessKeys) User(ctx context.Context) (string, error) {
	if k.cfg.User != "" {
		return k.cfg.User, nil
	}
	root, err := k.ask(ctx, "GetUser", url.Values{}, nil)
	if err != nil {
		return "", err
	}
	name, arn := root.textAt("GetUserResult", "User", "UserName"), root.textAt("GetUserResult", "User", "Arn")
	if strings.HasSuffix(arn, ":root") {
		return "", &cred.Error{Kind: cred.Invalid, Op: "aws.keys", Public: publicRoot, Err: errors.New("aws: root credentials")}
	}
	if !userName.MatchString(name) {
		return "", keysOdd(errors.New("aws: the answer names no user"))
	}
	return name, nil
}

func (k *AccessKeys) list(ctx context.Context, user string) ([]issuer.AccessKey, error) {
	var keys []issuer.AccessKey
	form := url.Values{"UserName": {user}}
	for range maxPages {
		root, err := k.ask(ctx, "ListAccessKeys", form, nil)
		if err != nil {
			return nil, err
		}
		more, marker, err := readKeys(root, user)
		if err != nil {
			return nil, keysOdd(err)
		}
		keys = append(keys, more...)
		if marker == "" {
			slices.SortStableFunc(keys, func(a, b issuer.AccessKey) int { return a.Created.Compare(b.Created) })
			return keys, nil
		}
		form.Set("Marker", marker)
	}
	return nil, keysOdd(errors.New("aws: the list of keys does not end"))
}

// readKeys reads one page, and where the next one begins; empty after the last.
func readKeys(root *element, user string) (keys []issuer.AccessKey, marker string, err error) {
	list := root.at("ListAccessKeysResult", "AccessKeyMetadata")
	truncated := root.textAt("ListAccessKeysResult", "IsTruncated")
	if list == nil || list.text != "" || truncated != "true" && truncated != "false" {
		return nil, "", errors.New("aws: the answer has no list of keys")
	}
	for _, m := range list.all("member") {
		key := issuer.AccessKey{ID: m.textAt("AccessKeyId"), Active: m.textAt("Status") == "Active"}
		key.Created, err = time.Parse(time.RFC3339, m.textAt("CreateDate"))
		if err != nil || !keyID.MatchString(key.ID) || m.textAt("UserName") != user {
			return nil, "", errors.New("aws: the answer has something that is no key of this user")
		}
		keys = append(keys, key)
	}
	if truncated == "true" {
		if marker = root.textAt("ListAccessKeysResult", "Marker"); marker == "" {
			return nil, "", errors.New("aws: the answer does not say where the list goes on")
		}
	}
	return keys, marker, nil
}

// ask sends one signed request and returns the root of its answer. The guard, where there is one, sees
// what signs it.
func (k *AccessKeys) ask(ctx context.Context, action string, form url.Values, guard func(aws.Credentials) error) (*element, error) {
	form.Set("Action", action)
	form.Set("Version", iamVersion)
	a, err := k.iam.call(ctx, func(ctx context.Context) (*query, error) {
		c, err := k.credentials(ctx)
		if err == nil && guard != nil {
			err = guard(c)
		}
		sign := func(r *http.Request, body string) error { return k.sign(ctx, c, r, body) }
		// What IAM says of a signature can quote the headers, and the session token is one.
		return &query{op: action, form: form, secret: cred.SecretString(c.SessionToken), sign: sign}, err
	})
	if err != nil {
		return nil, keysFailed(err)
	}
	root, err := document(a.body, iamSpace, action+"Response")
	if err != nil {
		return nil, keysOdd(err)
	}
	return root, nil
}

func (k *AccessKeys) credentials(ctx context.Context) (aws.Credentials, error) {
	c, err := k.cfg.Credentials(ctx)
	if err != nil {
		return aws.Credentials{}, issuer.NotIssued("aws.keys", "", publicNoKey, err)
	}
	field := func(name string) string { return c.Fields[name].RevealString() }
	out := aws.Credentials{AccessKeyID: field("access_key_id"), SecretAccessKey: field("secret_access_key"), SessionToken: field("session_token")}
	if c.Type != cred.AWS || !keyID.MatchString(out.AccessKeyID) || !tokenapi.Printable(out.SecretAccessKey) {
		return aws.Credentials{}, &cred.Error{Kind: cred.Invalid, Op: "aws.keys", Public: publicNoKey, Err: errors.New("aws: not a credential of AWS")}
	}
	return out, nil
}

func (k *AccessKeys) sign(ctx context.Context, c aws.Credentials, r *http.Request, body string) error {
	hash := sha256.Sum256([]byte(body))
	return k.signer.SignHTTP(ctx, c, r, hex.EncodeToString(hash[:]), "iam", partitionOf(k.cfg.Region).iamRegion, time.Now())
}
