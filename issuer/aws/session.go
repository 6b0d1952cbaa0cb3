package aws

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/internal/tokenapi"
)

const (
	stsVersion = "2011-06-15"
	stsSpace   = "https://sts.amazonaws.com/doc/2011-06-15/"
)

var keyID = regexp.MustCompile(`^\w{16,128}$`)

// stsSession is what AWS made: API_AssumeRoleWithWebIdentity, response elements.
type stsSession struct {
	keyID          string
	secret         cred.Secret
	token          cred.Secret
	expiration     time.Time
	assumed        string // ARN of the session
	sourceIdentity string // empty: AWS does not say
}

// readSession reads an answer. Its errors quote nothing of it.
func readSession(body []byte) (stsSession, error) {
	root, err := document(body, stsSpace, "AssumeRoleWithWebIdentityResponse")
	if err != nil {
		return stsSession{}, err
	}
	result := root.at("AssumeRoleWithWebIdentityResult")
	if result == nil {
		return stsSession{}, errors.New("the answer has no result")
	}
	secret, token := result.textAt("Credentials", "SecretAccessKey"), result.textAt("Credentials", "SessionToken")
	s := stsSession{
		keyID: result.textAt("Credentials", "AccessKeyId"), secret: cred.SecretString(secret), token: cred.SecretString(token),
		assumed: result.textAt("AssumedRoleUser", "Arn"), sourceIdentity: result.textAt("SourceIdentity"),
	}
	if !keyID.MatchString(s.keyID) || !tokenapi.Printable(secret) || !tokenapi.Printable(token) {
		return stsSession{}, errors.New("the answer has no credentials, or such as no header can carry")
	}
	if s.expiration, err = time.Parse(time.RFC3339, result.textAt("Credentials", "Expiration")); err != nil {
		return stsSession{}, errors.New("the answer does not say when the session ends")
	}
	return s, nil
}

// fits holds a session against what was asked for.
func (s stsSession) fits(p plan, life time.Duration) error {
	m := roleARN.FindStringSubmatch(p.role)
	if want := fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", m[1], m[2], m[3], p.session); s.assumed != want {
		return fmt.Errorf("the session of %v is not %s", life, want)
	}
	if s.sourceIdentity != "" && s.sourceIdentity != p.session {
		return errors.New("the session has another source identity than was asked for")
	}
	return nil
}

func (s stsSession) credential() cred.Credential {
	return cred.Credential{
		Type: cred.AWS, NotAfter: s.expiration,
		Fields: map[string]cred.Secret{
			"access_key_id": cred.SecretString(s.keyID), "secret_access_key": s.secret, "session_token": s.token,
		},
	}
}
