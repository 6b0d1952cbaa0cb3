package jws

import (
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// readClaims reads a token's claims and refuses names that differ from a registered one in case
// alone: encoding/json, which other readers use, takes "ISS" for "iss".
func readClaims(payload []byte) (map[string]any, error) {
	claims, err := readObject(payload, "claims")
	if err != nil {
		return nil, err
	}
	for name := range claims {
		if folded := fold(name); folded != name && registered[folded] {
			return nil, refusef("TOKEN_MALFORMED", "the token has the claim %s, which could be taken for %q", quote(name), folded)
		}
	}
	return claims, nil
}

// CheckClaims refuses claims that Parse would refuse in a token.
func CheckClaims(payload []byte) error {
	_, err := readClaims(payload)
	return err
}

// registered holds the names whose reading decides who somebody is and what they may: those of RFC
// 7519, section 4.1, of OpenID Connect Core, section 2, of RFC 8693, section 4, of RFC 7800 and of
// RFC 9068, the two that go-oidc follows to other claims, and our own.
var registered = map[string]bool{
	"iss": true, "sub": true, "aud": true, "exp": true, "nbf": true, "iat": true, "jti": true,
	"azp": true, "nonce": true, "auth_time": true, "acr": true, "amr": true, "at_hash": true,
	"act": true, "may_act": true, "scope": true, "client_id": true, "cnf": true,
	"_claim_names": true, "_claim_sources": true, "daypass": true,
}

// fold maps a name to the lower-case ASCII name that encoding/json would match it with. Besides the
// capitals, U+017F folds to "s" and U+212A to "k". It returns the name itself where nothing folds.
func fold(name string) string {
	plain := true
	for i := 0; i < len(name) && plain; i++ {
		plain = name[i] < utf8.RuneSelf && (name[i] < 'A' || name[i] > 'Z')
	}
	if plain {
		return name
	}
	folded := make([]rune, 0, len(name))
	for _, r := range name {
		switch {
		case 'A' <= r && r <= 'Z':
			r += 'a' - 'A'
		case r == '\u017f':
			r = 's'
		case r == '\u212a':
			r = 'k'
		}
		folded = append(folded, r)
	}
	return string(folded)
}

// readObject reads b in one scan. The reader itself refuses repeated members, invalid UTF-8,
// unpaired surrogates, numbers out of range and whatever follows the object.
func readObject(b []byte, what string) (map[string]any, error) {
	if object, ok := readPlain(b); ok {
		return object, nil
	}
	var value any // the reader makes the map of an any without reflection, at half the cost
	err := json.Unmarshal(b, &value)
	object, isObject := value.(map[string]any)
	if err == nil && !isObject {
		err = errNoObject
	}
	if err == nil && deeper(object, maxDepth) {
		err = errDepth
	}
	if err != nil {
		return nil, refusef("TOKEN_MALFORMED", "the token's %s: %s", what, explain(err))
	}
	return object, nil
}

// deeper reports whether a value nests more than n levels deep.
func deeper(v any, n int) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			if deeper(member, n-1) {
				return true
			}
		}
		return n == 0
	case []any:
		for _, element := range v {
			if deeper(element, n-1) {
				return true
			}
		}
		return n == 0
	}
	return false
}

var (
	errNoObject = errors.New("not a JSON object")
	errDepth    = errors.New("the JSON nests too deep")
)

// explain names what is wrong without repeating what was sent.
func explain(err error) string {
	semantic, isSemantic := errors.AsType[*json.SemanticError](err)
	switch {
	case errors.Is(err, errDepth), errors.Is(err, errNoObject):
		return err.Error()
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "a member is there twice"
	case isSemantic && semantic.JSONKind == '0' && semantic.JSONPointer != "":
		return "a number is out of range"
	case isSemantic:
		return errNoObject.Error()
	}
	return "not valid JSON"
}

// quote shows a name that a stranger chose: escaped, and not at any length.
func quote(name string) string {
	const most = 64
	if len(name) > most {
		name = name[:most] + "..."
	}
	return strconv.QuoteToASCII(name)
}
