package login

import (
	"encoding/json"
	"time"

	"github.com/daypass-io/daypass/cred"
)

// Session is a sign-in.
type Session struct {
	Method    Method
	Subject   string
	Name      string    // for people to read; may be empty
	AuthTime  time.Time // when the person last signed in; zero where the issuer does not say
	IssuedAt  time.Time // of the ID token
	ExpiresAt time.Time // of the ID token
	IDToken   cred.Secret
	Refresh   cred.Secret // empty where the issuer gave none
}

// What is asked of an ID token before it is used again.
const (
	// margin is how long it must still be good.
	margin = time.Minute
	// freshFor is how old it may be: brokers take tokens of people for an hour after their iat, unless
	// they are configured otherwise.
	freshFor = 45 * time.Minute
)

// fresh reports whether the ID token can be used without refreshing it.
func (s Session) fresh(now time.Time) bool {
	return now.Add(margin).Before(s.ExpiresAt) && now.Before(s.IssuedAt.Add(freshFor))
}

// sessionWire is how a session is kept, without its refresh token.
type sessionWire struct {
	Method    Method    `json:"method"`
	Subject   string    `json:"subject"`
	Name      string    `json:"name,omitempty"`
	AuthTime  time.Time `json:"auth_time,omitzero"`
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
	IDToken   string    `json:"id_token"`
}

func (s Session) encode() (cred.Secret, error) {
	b, err := json.Marshal(sessionWire{s.Method, s.Subject, s.Name, s.AuthTime, s.IssuedAt, s.ExpiresAt, s.IDToken.RevealString()})
	return cred.NewSecret(b), err
}

func decodeSession(b cred.Secret) (Session, error) {
	var w sessionWire
	if err := json.Unmarshal(b.Reveal(), &w); err != nil {
		return Session{}, err
	}
	return Session{
		Method: w.Method, Subject: w.Subject, Name: w.Name, AuthTime: w.AuthTime,
		IssuedAt: w.IssuedAt, ExpiresAt: w.ExpiresAt, IDToken: cred.SecretString(w.IDToken),
	}, nil
}
