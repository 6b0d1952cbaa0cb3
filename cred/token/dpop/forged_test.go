package dpop_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/daypass-io/daypass/cred/token/dpop"
)

// forgery is a proof that must be refused, and what the refusal says.
type forgery struct{ proof, says string }

// checkForged verifies each forgery, and after it a genuine proof by the same key: the refusal was
// for the forgery alone.
func checkForged(t *testing.T, f *forger, least int, forged map[string]forgery) {
	t.Helper()
	if len(forged) < least {
		t.Errorf("%d forgeries, want %d", len(forged), least)
	}
	v, w := verifier(dpop.Options{}), want(f.thumbprint())
	for name, c := range forged {
		_, err := v.Verify(c.proof, w)
		wantRefused(t, name, err, dpop.ReasonInvalid, c.says)
		if _, err := v.Verify(f.good(), w); err != nil {
			t.Fatalf("after %s a genuine proof is refused: %v", name, err)
		}
	}
}

func TestForgedForm(t *testing.T) {
	f := newForger(t)
	good := f.good()
	part := strings.Split(good, ".")
	header, claims := text(f.header), text(f.claims)
	const form = "its form is not that of a DPoP proof"
	checkForged(t, f, 25, map[string]forgery{
		"nothing":                 {"", form},
		"two parts":               {part[0] + "." + part[1], form},
		"four parts":              {good + ".x", form},
		"no signature":            {part[0] + "." + part[1] + ".", form},
		"a space before it":       {" " + good, form},
		"a line break after it":   {good + "\n", form},
		"a scheme before it":      {"DPoP " + good, form},
		"two proofs":              {good + "," + good, form},
		"padding in the header":   {part[0] + "=." + part[1] + "." + part[2], form},
		"a line break inside":     {part[0] + "." + part[1][:4] + "\n" + part[1][4:] + "." + part[2], form},
		"stray bits at the end":   {part[0] + "." + part[1] + "." + stray(part[2]), form},
		"standard base64":         {part[0] + "." + part[1] + ".++//", form},
		"the JSON form":           {`{"protected":"` + part[0] + `","payload":"` + part[1] + `","signature":"` + part[2] + `"}`, form},
		"far too long":            {f.withClaim("x", strings.Repeat("x", dpop.MaxBytes)), form},
		"a header that is none":   {f.sign("dpop+jwt", claims), form},
		"a header that is a list": {f.sign("["+header+"]", claims), form},
		"a null header":           {f.sign("null", claims), form},
		"claims that are a text":  {f.sign(header, `"claims"`), form},
		"claims and more":         {f.sign(header, claims+"{}"), form},
		"a byte order mark":       {f.sign("\ufeff"+header, claims), form},
		"bytes that are no UTF-8": {f.sign(header, strings.Replace(claims, `"GET"`, "\"GET\xff\"", 1)), form},
		"half a surrogate pair":   {f.sign(header, strings.Replace(claims, `"GET"`, `"GET\ud800"`, 1)), form},
		"typ twice":               {f.sign(strings.Replace(header, "{", `{"typ":"JWT",`, 1), claims), form},
		"jti twice":               {f.sign(header, strings.Replace(claims, "{", `{"jti":"a",`, 1)), form},
		"x twice in the key":      {f.sign(strings.Replace(header, `"x":`, `"x":"AA","x":`, 1), claims), form},
		"an escaped name twice":   {f.sign(header, strings.Replace(claims, "{", `{"ht\u006d":"POST",`, 1)), form},
		"JTI besides jti":         {f.withClaim("JTI", "another"), form},
		"claims that nest deep":   {f.sign(header, `{"a":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+"}"), form},
	})
}

// stray sets bits of the last character that no byte has.
func stray(part string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, part[len(part)-1])
	return part[:len(part)-1] + alphabet[last|1:last|1+1]
}

func TestForgedHeaders(t *testing.T) {
	f := newForger(t)
	hmac := *f
	hmac.method = secretMethod{}
	const form, typ = "its form", "its typ is not"
	checkForged(t, f, 25, map[string]forgery{
		"no typ":               {f.withHeader("typ", remove{}), form},
		"an identity token":    {f.withHeader("typ", "JWT"), typ},
		"a grant token":        {f.withHeader("typ", "at+jwt"), typ},
		"typ in capitals":      {f.withHeader("typ", "DPOP+JWT"), typ},
		"typ with its tree":    {f.withHeader("typ", "application/dpop+jwt"), typ},
		"typ that is a list":   {f.withHeader("typ", []string{"dpop+jwt"}), form},
		"an empty typ":         {f.withHeader("typ", ""), typ},
		"no alg":               {f.withHeader("alg", remove{}), form},
		"alg none":             {f.withHeader("alg", "none"), form},
		"alg None":             {f.withHeader("alg", "None"), form},
		"alg HS256":            {f.withHeader("alg", "HS256"), form},
		"HS256 by the key":     {hmac.withHeader("alg", "HS256"), form},
		"alg es256":            {f.withHeader("alg", "es256"), form},
		"alg ES256K":           {f.withHeader("alg", "ES256K"), form},
		"an encryption's alg":  {f.withHeader("alg", "ECDH-ES"), form},
		"alg that is a number": {f.withHeader("alg", 256), form},
		"alg of another curve": {f.withHeader("alg", "ES384"), "not a key for its alg"},
		"alg of another type":  {f.withHeader("alg", "RS256"), "not a key for its alg"},
		"alg of Ed25519":       {f.withHeader("alg", "EdDSA"), "not a key for its alg"},
		"a kid besides":        {f.withHeader("kid", "k1"), form},
		"a kid in place":       {f.with(func(h, _ map[string]any) { delete(h, "jwk"); h["kid"] = "k1" }), form},
		"a key's URL":          {f.withHeader("jku", "https://keys.example.com"), form},
		"a certificate":        {f.withHeader("x5c", []string{"AA"}), form},
		"a certificate's URL":  {f.withHeader("x5u", "https://keys.example.com"), form},
		"a thumbprint":         {f.withHeader("x5t", "AA"), form},
		"crit":                 {f.withHeader("crit", []string{"b64"}), form},
		"b64":                  {f.withHeader("b64", false), form},
		"zip":                  {f.withHeader("zip", "DEF"), form},
		"no jwk":               {f.withHeader("jwk", remove{}), form},
		"a null jwk":           {f.withHeader("jwk", nil), form},
		"a jwk that is a text": {f.withHeader("jwk", text(f.header["jwk"])), form},
		"a list of keys":       {f.withHeader("jwk", []any{f.header["jwk"]}), form},
		"a key set":            {f.withHeader("jwk", map[string]any{"keys": []any{f.header["jwk"]}}), "type that is known"},
	})
}

// secretMethod signs with what everybody can see of the key, as one who hopes that the verifier
// takes a public key for a shared secret.
type secretMethod struct{ jwt.SigningMethod }

func (secretMethod) Sign(input string, key any) ([]byte, error) {
	public, err := x509.MarshalPKIXPublicKey(&key.(*ecdsa.PrivateKey).PublicKey)
	if err != nil {
		return nil, err
	}
	return jwt.SigningMethodHS256.Sign(input, public)
}

func TestForgedKeys(t *testing.T) {
	f := newForger(t)
	other := newForger(t)
	private := f.private.(*ecdsa.PrivateKey)
	d, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	jwk := f.header["jwk"].(map[string]any)
	x := jwk["x"].(string)
	zero := b64(make([]byte, 32))
	const kind, members, read = "type that is known", "members that are not known", "can't be read"
	forged := map[string]forgery{
		"the private key":            {f.withKey("d", b64(d)), members},
		"an empty private member":    {f.withKey("d", ""), members},
		"a shared secret":            {f.withKey("k", "AAAA"), members},
		"a symmetric key":            {f.withHeader("jwk", map[string]any{"kty": "oct", "k": "AAAA"}), kind},
		"a certificate in the key":   {f.withKey("x5c", []string{"AA"}), members},
		"a certificate's URL":        {f.withKey("x5u", "https://keys.example.com"), members},
		"an unknown member":          {f.withKey("extra", true), members},
		"KTY besides kty":            {f.withKey("KTY", "RSA"), members},
		"an RSA key's members":       {f.withKey("n", "AQAB"), members},
		"no kty":                     {f.withKey("kty", remove{}), kind},
		"kty in lower case":          {f.withKey("kty", "ec"), kind},
		"kty that is a list":         {f.withKey("kty", []string{"EC"}), kind},
		"no crv":                     {f.withKey("crv", remove{}), read},
		"a curve that is unknown":    {f.withKey("crv", "secp256k1"), read},
		"a curve that is another":    {f.withKey("crv", "P-384"), read},
		"no x":                       {f.withKey("x", remove{}), read},
		"no y":                       {f.withKey("y", remove{}), read},
		"x that is a number":         {f.withKey("x", 7), read},
		"x and y of two points":      {f.withKey("x", other.header["jwk"].(map[string]any)["x"]), read},
		"no point of the curve":      {f.withKey("y", zero), read},
		"the origin":                 {f.withKey("x", zero), read},
		"x with a zero before it":    {f.withKey("x", b64(append([]byte{0}, decode(t, x)...))), read},
		"x with padding":             {f.withKey("x", x+"="), read},
		"x with stray bits":          {f.withKey("x", stray(x)), read},
		"x with a line break":        {f.withKey("x", x[:8]+"\n"+x[8:]), read},
		"a key for encryption":       {f.withKey("use", "enc"), "meant for something else"},
		"a key for another alg":      {f.withKey("alg", "ES384"), "meant for something else"},
		"a key for an alg of a type": {f.withKey("alg", 1), "meant for something else"},
		"X25519":                     {f.withHeader("jwk", map[string]any{"kty": "OKP", "crv": "X25519", "x": x}), read},
		"a short Ed25519 key":        {f.withHeader("jwk", map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}), read},
	}
	for name, c := range weakKeys(t) {
		forged[name] = c
	}
	checkForged(t, f, 34, forged)
}

// weakKeys are RSA keys that sign as they should.
func weakKeys(t *testing.T) map[string]forgery {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f := newForger(t)
	f.private, f.method = key, jwt.SigningMethodPS256
	f.header["alg"] = "PS256"
	rsaKey := func(n *big.Int, e ...byte) string {
		return f.withHeader("jwk", map[string]any{"kty": "RSA", "n": b64(n.Bytes()), "e": b64(e)})
	}
	long := new(big.Int).Lsh(big.NewInt(1), 8191)
	return map[string]forgery{
		"RSA of 1024 bits":        {rsaKey(new(big.Int).Rsh(key.N, 1024), 1, 0, 1), "too weak"},
		"RSA of 8192 bits":        {rsaKey(long.SetBit(long, 0, 1), 1, 0, 1), "can't be read"},
		"RSA with exponent 1":     {rsaKey(key.N, 1), "jwk"},
		"RSA with exponent 2":     {rsaKey(key.N, 2), "jwk"},
		"RSA with zeros before e": {rsaKey(key.N, 0, 1, 0, 1), "can't be read"},
		"RSA with zeros before n": {f.withHeader("jwk", map[string]any{"kty": "RSA", "n": b64(append([]byte{0}, key.N.Bytes()...)), "e": "AQAB"}), "can't be read"},
		"a private RSA key":       {f.withHeader("jwk", map[string]any{"kty": "RSA", "n": b64(key.N.Bytes()), "e": "AQAB", "d": b64(key.D.Bytes())}), "members that are not known"},
	}
}

func TestForgedSignatures(t *testing.T) {
	f, thief := newForger(t), newForger(t)
	good, other := strings.Split(f.good(), "."), strings.Split(f.good(), ".")
	signature := decode(t, good[2])
	flipped := append([]byte{signature[0] ^ 1}, signature[1:]...)
	der, err := ecdsa.SignASN1(rand.Reader, f.private.(*ecdsa.PrivateKey), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	stolen := *thief // the thief's signature under the holder's key
	stolen.header = f.header
	swapped := strings.Split(thief.good(), ".")
	const says = "its signature does not verify"
	checkForged(t, f, 10, map[string]forgery{
		"by another key":               {stolen.good(), says},
		"another key in the header":    {swapped[0] + "." + good[1] + "." + good[2], says},
		"another proof's signature":    {good[0] + "." + good[1] + "." + other[2], says},
		"another proof's claims":       {good[0] + "." + other[1] + "." + good[2], says},
		"one bit":                      {good[0] + "." + good[1] + "." + b64(flipped), says},
		"zeros":                        {good[0] + "." + good[1] + "." + b64(make([]byte, 64)), says},
		"shorter":                      {good[0] + "." + good[1] + "." + b64(signature[:63]), says},
		"longer":                       {good[0] + "." + good[1] + "." + b64(append(signature, 0)), says},
		"as ASN.1":                     {good[0] + "." + good[1] + "." + b64(der), says},
		"a signature of one character": {good[0] + "." + good[1] + "." + "AA", says},
	})
}

func TestForgedClaims(t *testing.T) {
	f := newForger(t)
	at := now.Unix()
	const missing, noTime, url = "is missing, not a text, or too long", "is missing or not a time", "for another URL"
	checkForged(t, f, 60, map[string]forgery{
		"no jti":                   {f.withClaim("jti", remove{}), "jti " + missing},
		"an empty jti":             {f.withClaim("jti", ""), "jti " + missing},
		"jti that is a number":     {f.withClaim("jti", 7), "jti " + missing},
		"a null jti":               {f.withClaim("jti", nil), "jti " + missing},
		"a long jti":               {f.withClaim("jti", strings.Repeat("j", 257)), "jti " + missing},
		"no htm":                   {f.withClaim("htm", remove{}), "htm " + missing},
		"htm in lower case":        {f.withClaim("htm", "get"), "another method"},
		"another method":           {f.withClaim("htm", "POST"), "another method"},
		"htm with a space":         {f.withClaim("htm", "GET "), "another method"},
		"a list of methods":        {f.withClaim("htm", []string{"GET"}), "htm " + missing},
		"HTM in place of htm":      {f.with(func(_, c map[string]any) { delete(c, "htm"); c["HTM"] = "GET" }), "htm " + missing},
		"no htu":                   {f.withClaim("htu", remove{}), "htu " + missing},
		"an empty htu":             {f.withClaim("htu", ""), "htu " + missing},
		"another host":             {f.withClaim("htu", "https://evil.example.com/api/v1/models"), url},
		"a host below":             {f.withClaim("htu", "https://proxy.example.com.evil.example.com/api/v1/models"), url},
		"the host with a dot":      {f.withClaim("htu", "https://proxy.example.com./api/v1/models"), url},
		"a user before the host":   {f.withClaim("htu", "https://u@proxy.example.com/api/v1/models"), url},
		"the host as a user":       {f.withClaim("htu", "https://proxy.example.com@evil.example.com/api/v1/models"), url},
		"another port":             {f.withClaim("htu", "https://proxy.example.com:8443/api/v1/models"), url},
		"a port that is none":      {f.withClaim("htu", "https://proxy.example.com:44x/api/v1/models"), url},
		"another scheme":           {f.withClaim("htu", "http://proxy.example.com/api/v1/models"), url},
		"a scheme that is none":    {f.withClaim("htu", "ws://proxy.example.com/api/v1/models"), url},
		"no scheme":                {f.withClaim("htu", "//proxy.example.com/api/v1/models"), url},
		"a path alone":             {f.withClaim("htu", "/api/v1/models"), url},
		"no host":                  {f.withClaim("htu", "https:///api/v1/models"), url},
		"the root":                 {f.withClaim("htu", "https://proxy.example.com/"), url},
		"another path":             {f.withClaim("htu", "https://proxy.example.com/api/v1/keys"), url},
		"a path above":             {f.withClaim("htu", "https://proxy.example.com/api/v1"), url},
		"a path below":             {f.withClaim("htu", address+"/x"), url},
		"a slash at the end":       {f.withClaim("htu", address+"/"), url},
		"two slashes":              {f.withClaim("htu", "https://proxy.example.com//api/v1/models"), url},
		"another case":             {f.withClaim("htu", "https://proxy.example.com/API/v1/models"), url},
		"a path that climbs":       {f.withClaim("htu", "https://proxy.example.com/api/v1/x/../models"), url},
		"an escaped slash":         {f.withClaim("htu", "https://proxy.example.com/api/v1%2Fmodels"), url},
		"an escape escaped":        {f.withClaim("htu", "https://proxy.example.com/api/v1/%256dodels"), url},
		"half an escape":           {f.withClaim("htu", "https://proxy.example.com/api/v1/models%6"), url},
		"an escape that is none":   {f.withClaim("htu", "https://proxy.example.com/api/v1/%zzmodels"), url},
		"a backslash":              {f.withClaim("htu", `https://proxy.example.com\api\v1\models`), url},
		"a space":                  {f.withClaim("htu", " "+address), url},
		"a zero byte":              {f.withClaim("htu", address+"\x00"), url},
		"a tab inside":             {f.withClaim("htu", "https://proxy.example.com/api/v1\t/models"), url},
		"a letter like another":    {f.withClaim("htu", "https://pr\u043exy.example.com/api/v1/models"), url},
		"an escaped host":          {f.withClaim("htu", "https://proxy%2eexample.com/api/v1/models"), url},
		"htu that is a list":       {f.withClaim("htu", []string{address}), "htu " + missing},
		"no iat":                   {f.withClaim("iat", remove{}), "iat " + noTime},
		"iat that is a text":       {f.withClaim("iat", "1"), "iat " + noTime},
		"a negative iat":           {f.withClaim("iat", -at), "iat " + noTime},
		"iat zero":                 {f.withClaim("iat", 0), "iat " + noTime},
		"iat in milliseconds":      {f.withClaim("iat", at*1000), "iat " + noTime},
		"iat beyond all years":     {f.withClaim("iat", 1e300), "iat " + noTime},
		"from the future":          {f.withClaim("iat", at+6), "from the future"},
		"too old":                  {f.withClaim("iat", at-66), "too old"},
		"made before the verifier": {f.withClaim("iat", at-1), "before this process began"},
		"past its exp":             {f.withClaim("exp", at-6), "too old"},
		"exp that is a text":       {f.withClaim("exp", "never"), "exp " + noTime},
		"before its nbf":           {f.withClaim("nbf", at+6), "from the future"},
		"nbf that is null":         {f.withClaim("nbf", nil), "nbf " + noTime},
		"no ath":                   {f.withClaim("ath", remove{}), "its ath does not name"},
		"another token's ath":      {f.withClaim("ath", dpop.TokenHash("another")), "its ath does not name"},
		"the token as ath":         {f.withClaim("ath", accessToken), "its ath does not name"},
		"ath with padding":         {f.withClaim("ath", dpop.TokenHash(accessToken)+"="), "ath " + missing},
		"ath of nothing":           {f.withClaim("ath", ""), "ath " + missing},
		"ath that is a list":       {f.withClaim("ath", []string{dpop.TokenHash(accessToken)}), "ath " + missing},
		"a nonce that is a number": {f.withClaim("nonce", 1), "nonce " + missing},
		"a long nonce":             {f.withClaim("nonce", strings.Repeat("n", 257)), "nonce " + missing},
	})
}

// A proof that holds in itself is still another one's.
func TestAnotherKeysProof(t *testing.T) {
	f, thief := newForger(t), newForger(t)
	v := verifier(dpop.Options{})
	_, err := v.Verify(thief.good(), want(f.thumbprint()))
	wantRefused(t, "another key", err, dpop.ReasonKeyMismatch, "another key than the one that the token is bound to")
	if _, err := v.Verify(f.good(), want(f.thumbprint())); err != nil {
		t.Error(err)
	}
}

// What other clients send, and RFC 9449 allows.
func TestProofsOfOtherClients(t *testing.T) {
	f := newForger(t)
	v := verifier(dpop.Options{})
	for name, proof := range map[string]string{
		"escapes of plain letters":      f.withClaim("htu", "https://proxy.example.com/api/v1/%6dodels"),
		"the host in capitals":          f.withClaim("htu", "HTTPS://PROXY.example.com/api/v1/models"),
		"the default port":              f.withClaim("htu", "https://proxy.example.com:443/api/v1/models"),
		"an empty port":                 f.withClaim("htu", "https://proxy.example.com:/api/v1/models"),
		"a query, which does not count": f.withClaim("htu", address+"?other=2"),
		"a fragment, which neither":     f.withClaim("htu", address+"#top"),
		"a fraction of a second":        f.withClaim("iat", float64(now.Unix())+0.5),
		"a clock that is ahead":         f.withClaim("iat", now.Unix()+5),
		"a nonce that nobody asked for": f.withClaim("nonce", "n-1"),
		"further claims":                f.withClaim("scope", "read"),
		"an exp and an nbf": f.with(func(_, c map[string]any) {
			c["exp"], c["nbf"] = now.Unix()+1, now.Unix()
		}),
		"a key as browsers export it": f.with(func(h, _ map[string]any) {
			jwk := h["jwk"].(map[string]any)
			jwk["ext"], jwk["key_ops"], jwk["alg"], jwk["use"], jwk["kid"] = true, []string{"verify"}, "ES256", "sig", "k1"
		}),
	} {
		if _, err := v.Verify(proof, want(f.thumbprint())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryAlgorithm(t *testing.T) {
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []jwt.SigningMethod{
		jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodES512, jwt.SigningMethodEdDSA,
		jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
		jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512,
	} {
		f := newForger(t)
		f.method = method
		f.header["alg"] = method.Alg()
		switch method.Alg()[:2] {
		case "ES":
			curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[method.Alg()]
			private, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			f.private, f.header["jwk"] = private, jwkOf(&private.PublicKey)
		case "Ed":
			f.private, f.header["jwk"] = edwards, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public)}
		default:
			f.private, f.header["jwk"] = long, map[string]any{"kty": "RSA", "n": b64(long.N.Bytes()), "e": "AQAB"}
		}
		if _, err := verifier(dpop.Options{}).Verify(f.good(), want(f.thumbprint())); err != nil {
			t.Errorf("%s: %v", method.Alg(), err)
		}
	}
}
