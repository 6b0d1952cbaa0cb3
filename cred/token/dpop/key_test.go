package dpop_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/cred/token/dpop"
)

func newKey(t testing.TB) (*dpop.Key, map[string]any) {
	t.Helper()
	k, err := dpop.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(encoded.Reveal(), &m); err != nil || m["d"] == nil {
		t.Fatalf("no private JWK: %v", err)
	}
	return k, m
}

func TestAKeyIsKept(t *testing.T) {
	k, _ := newKey(t)
	encoded, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := dpop.ParseKey(encoded)
	if err != nil || again.Thumbprint() != k.Thumbprint() {
		t.Fatalf("another key came back: %v, %v", again, err)
	}
	if _, err := verifier(dpop.Options{}).Verify(sign(t, again, "", now), want(k.Thumbprint())); err != nil {
		t.Error(err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	_, good := newKey(t)
	_, other := newKey(t)
	d := good["d"].(string)
	changed := func(change func(m map[string]any)) string {
		m := map[string]any{}
		for name, value := range good {
			m[name] = value
		}
		change(m)
		return text(m)
	}
	for name, encoded := range map[string]string{
		"nothing": "", "no JSON": "{", "a list": "[]", "far too long": text(good) + strings.Repeat(" ", 4<<10),
		"a public key":           changed(func(m map[string]any) { delete(m, "d") }),
		"another's private half": changed(func(m map[string]any) { m["d"] = other["d"] }),
		"another's public half":  changed(func(m map[string]any) { m["x"], m["y"] = other["x"], other["y"] }),
		"another curve":          changed(func(m map[string]any) { m["crv"] = "P-384" }),
		"for encryption":         changed(func(m map[string]any) { m["use"] = "enc" }),
		"for another alg":        changed(func(m map[string]any) { m["alg"] = "ES384" }),
		"a shared secret":        `{"kty":"oct","k":"AAAA"}`,
	} {
		k, err := dpop.ParseKey(cred.SecretString(encoded))
		if k != nil || cred.KindOf(err) != cred.Invalid {
			t.Errorf("%s: %v, %v", name, k, err)
		} else if strings.Contains(err.Error(), d) {
			t.Errorf("%s: the error holds the private key", name)
		}
	}
	if _, err := dpop.ParseKey(cred.SecretString(changed(func(m map[string]any) { delete(m, "use") }))); err != nil {
		t.Errorf("the change that is allowed: %v", err) // or the table above proves nothing
	}
}

func TestAKeyPrintsNoPrivateHalf(t *testing.T) {
	k, m := newKey(t)
	nested := struct {
		key   *dpop.Key
		value dpop.Key
	}{k, *k}
	d := new(big.Int).SetBytes(decode(t, m["d"].(string)))
	leaks := []string{"D:", m["d"].(string), d.String(), d.Text(16), fmt.Sprintf("%d", d.Bytes())}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		for _, v := range []any{k, *k, nested, &nested, []any{k}} {
			out := fmt.Sprintf(verb, v)
			for _, leak := range leaks {
				if strings.Contains(out, leak) {
					t.Errorf("%s of %T prints %s", verb, v, out)
				}
			}
		}
	}
	if got := fmt.Sprint(k); got != "dpop.Key("+k.Thumbprint()+")" {
		t.Errorf("prints %q", got)
	}
	if out := fmt.Sprint((*dpop.Key)(nil)); out != "<nil>" {
		t.Errorf("nil prints %q", out)
	}
}
