// Package jws reads a compact JWS strictly, before any library sees it.
//
// JWT libraries agree on what a good token is and differ on everything else: some take members in
// another case, some take the last of two members of one name, some ignore line breaks inside
// base64. Where two readers of one token may differ, an attacker shows each what it wants to see.
// Parse therefore refuses every token that has more than one reading. It checks no signature and
// no claim's value: that is its callers' work.
package jws

import (
	"encoding/base64"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// maxDepth is how deep the JSON of a header or of claims may nest, the outermost object included.
const maxDepth = 16

// maxKid is how long a key's name may be, in bytes.
const maxKid = 512

// Header is what a token's protected header may say (RFC 7515, section 4.1). The thumbprints x5t
// and x5t#S256 are tolerated and not used.
type Header struct {
	Alg string // one of the asymmetric algorithms of RFC 7518 and RFC 8037
	Kid string // empty where the header names no key
	Typ string // as sent; empty where absent
}

// Parsed is a token that has one reading. Nothing of it is verified yet.
type Parsed struct {
	Header       Header
	Claims       map[string]any // JSON values: string, float64, bool, nil, []any, map[string]any
	Payload      []byte         // the claims as sent
	SigningInput string         // what the signature is over
	Signature    []byte         // never empty
}

// Parse reads a token of up to maxBytes bytes. It refuses
//   - all but three parts in canonical base64url: padding, white space, stray bits, JSON form;
//   - header members other than alg, kid, typ, x5t and x5t#S256, so every place that could name a
//     key from outside (jku, x5u, jwk, x5c) and every one that changes the reading (crit, b64, zip);
//   - alg none, and every alg that is not an asymmetric signature;
//   - JSON that is not one object, has a member twice at any depth, is not UTF-8, nests deeper than
//     16, or has a number that is out of range;
//   - claims whose name is a registered one but for its case.
//
// The error is a *cred.Error of Kind Unauthenticated, whose Reason is TOKEN_TOO_LARGE,
// TOKEN_ALGORITHM or TOKEN_MALFORMED.
func Parse(compact string, maxBytes int) (Parsed, error) {
	return parse(compact, maxBytes, func(p *Parsed, header string) (err error) {
		p.Header, err = readHeader(header)
		return err
	})
}

// ParseWithKey reads a token that carries the key which verifies it, as a DPoP proof does (RFC 9449,
// section 4.2). It refuses what Parse refuses, and every header that has other members than alg, typ
// and jwk, or lacks one of them. The key is returned as it was sent. Nothing of it is checked, and
// it says nothing about who signed but that it was its holder.
func ParseWithKey(compact string, maxBytes int) (p Parsed, jwk map[string]any, err error) {
	p, err = parse(compact, maxBytes, func(p *Parsed, header string) (err error) {
		p.Header, jwk, err = readHeaderWithKey(header)
		return err
	})
	return p, jwk, err
}

func parse(compact string, maxBytes int, readHeader func(p *Parsed, part string) error) (Parsed, error) {
	if len(compact) > maxBytes {
		return Parsed{}, refusef("TOKEN_TOO_LARGE", "the token has %d bytes, and at most %d are accepted", len(compact), maxBytes)
	}
	header, payload, signature, err := split(compact)
	if err != nil {
		return Parsed{}, err
	}
	var p Parsed
	if err = readHeader(&p, header); err != nil {
		return Parsed{}, err
	}
	if p.Payload, err = decode(payload, "claims"); err != nil {
		return Parsed{}, err
	}
	if p.Claims, err = readClaims(p.Payload); err != nil {
		return Parsed{}, err
	}
	if p.Signature, err = decode(signature, "signature"); err != nil {
		return Parsed{}, err
	}
	p.SigningInput = compact[:len(header)+1+len(payload)]
	return p, nil
}

func split(compact string) (header, payload, signature string, err error) {
	header, rest, ok1 := strings.Cut(compact, ".")
	payload, signature, ok2 := strings.Cut(rest, ".")
	switch {
	case !ok1, !ok2, strings.Contains(signature, "."):
		return "", "", "", refusef("TOKEN_MALFORMED", "the token does not have the three parts of a compact JWS")
	case signature == "":
		return "", "", "", refusef("TOKEN_MALFORMED", "the token has no signature")
	}
	return header, payload, signature, nil
}

// strictBase64 refuses stray bits in the last character. It still skips line breaks, which decode
// looks for itself.
var strictBase64 = base64.RawURLEncoding.Strict()

func decode(part, name string) ([]byte, error) {
	b, err := strictBase64.DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") {
		return nil, refusef("TOKEN_MALFORMED", "the token's %s is not canonical base64url", name)
	}
	return b, nil
}

// readHeader is on the way of every token, so it keeps to the five members that there are.
func readHeader(part string) (Header, error) {
	raw, err := decode(part, "header")
	if err != nil {
		return Header{}, err
	}
	members, err := readObject(raw, "header")
	if err != nil {
		return Header{}, err
	}
	var h Header
	for name, value := range members {
		s, isString := value.(string)
		switch name {
		case "alg":
			h.Alg = s
		case "kid":
			h.Kid = s
		case "typ":
			h.Typ = s
		case "x5t", "x5t#S256":
		default:
			return Header{}, refusef("TOKEN_MALFORMED", "the token's header has the member %s, which is not accepted", quote(name))
		}
		if !isString || s == "" {
			return Header{}, refusef("TOKEN_MALFORMED", "the member %s of the token's header is not a string with a value", quote(name))
		}
	}
	if len(h.Kid) > maxKid {
		return Header{}, refusef("TOKEN_MALFORMED", "the token's header names its key in %d bytes, and at most %d are accepted", len(h.Kid), maxKid)
	}
	return h, checkAlg(h.Alg)
}

// readHeaderWithKey reads a header of alg, typ and jwk.
func readHeaderWithKey(part string) (Header, map[string]any, error) {
	raw, err := decode(part, "header")
	if err != nil {
		return Header{}, nil, err
	}
	members, err := readObject(raw, "header")
	if err != nil {
		return Header{}, nil, err
	}
	alg, hasAlg := members["alg"].(string)
	typ, hasTyp := members["typ"].(string)
	jwk, hasKey := members["jwk"].(map[string]any)
	if len(members) != 3 || !hasAlg || !hasTyp || !hasKey {
		return Header{}, nil, refusef("TOKEN_MALFORMED", "the token's header is not made of alg, typ and jwk alone")
	}
	return Header{Alg: alg, Typ: typ}, jwk, checkAlg(alg)
}

func checkAlg(alg string) error {
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA":
		return nil
	case "":
		return refusef("TOKEN_ALGORITHM", "the token's header does not name its algorithm")
	}
	return refusef("TOKEN_ALGORITHM", "the token is signed with %s, and only asymmetric signatures are accepted", quote(alg))
}

func refusef(reason, format string, args ...any) error {
	e := cred.Errorf(cred.Unauthenticated, "jws.parse", "", format, args...)
	e.Public, e.Err = e.Err.Error()+"; send the token exactly as its issuer made it", nil
	e.Reason = reason
	return e
}
