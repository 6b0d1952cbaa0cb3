package vault

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/daypass-io/daypass/cred"
)

// The grant's parameters that go to Vault although the target does not name them: a key of the
// caller's own that is to be signed, of which nobody but the caller ever sees the private half.
const (
	paramCSR       = "csr"        // pki/sign/ROLE: PKCS #10, PEM or the base64 of its DER on one line
	paramPublicKey = "public_key" // ssh/sign/ROLE: a line as in authorized_keys
)

// maxOwnKey bounds a parameter with a key, in bytes: a request for 16384 bits of RSA with dozens of
// names is shorter.
const maxOwnKey = 16 << 10

// ownKey is a caller's key, read and written anew, so that Vault gets nothing that was not understood.
type ownKey struct {
	param    string
	text     string
	signedAs cred.CredentialType
}

// readOwnKey returns the key that a path signs. A path that signs needs one, from the caller or from
// the target itself; any other path takes none, so that a caller who sends one is not left to think
// that it was used. The path sign-verbatim counts as any other: it would sign whatever a caller asks.
func readOwnKey(engine string, from cred.CredentialSource, sent map[string]string) (*ownKey, error) {
	param, read := signer(engine, from.Path)
	for _, name := range []string{paramCSR, paramPublicKey} {
		if _, given := sent[name]; given && (name != param || from.Params[name] != "") {
			return nil, badKey(name, "this target does not sign a caller's own key; leave the parameter "+name+" out", nil)
		}
	}
	if param == "" {
		return nil, nil
	}
	text := from.Params[param]
	if text == "" {
		text = sent[param]
	}
	if text == "" {
		return nil, &cred.Error{
			Kind: cred.Invalid, Op: "vault.issue", Reason: "PARAM_MISSING", Claim: param,
			Public: "this target signs a key of your own; send it as the parameter " + param,
		}
	}
	if len(text) > maxOwnKey {
		return nil, badKey(param, "the parameter "+param+" is too long", nil)
	}
	return read(text, from.Params)
}

// signer tells which parameter a path signs, and how to read it.
func signer(engine, path string) (param string, read func(text string, fixed map[string]string) (*ownKey, error)) {
	parts := strings.Split(path, "/")
	if len(parts) < 3 || parts[len(parts)-2] != "sign" {
		return "", nil
	}
	switch engine {
	case "pki":
		return paramCSR, readCSR
	case "ssh":
		return paramPublicKey, readPublicKey
	}
	return "", nil
}

// readCSR reads a request for a certificate (RFC 2986), proves that whoever made it holds the key, and
// holds its names against those that the target fixes.
func readCSR(text string, fixed map[string]string) (*ownKey, error) {
	const public = "the parameter csr must be one certificate request, in PEM or as the base64 of its DER, signed with its own key"
	der, err := csrDER(text)
	if err != nil {
		return nil, badKey(paramCSR, public, err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, badKey(paramCSR, public, err)
	}
	if err := checkNames(csr, fixed); err != nil {
		return nil, err
	}
	text = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw}))
	return &ownKey{param: paramCSR, text: text, signedAs: cred.TLS}, nil
}

func csrDER(text string) ([]byte, error) {
	if !strings.Contains(text, "-----BEGIN") {
		return base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || !strings.HasSuffix(block.Type, "CERTIFICATE REQUEST") || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("vault: not one PEM block with a certificate request")
	}
	return block.Bytes, nil
}

// checkNames holds the names in a request against the target's. Vault prefers the request's own names
// to those in parameters (a PKI role's use_csr_common_name and use_csr_sans), so what the target fixes
// would bind nobody. A target that fixes none leaves it to the role in Vault.
func checkNames(csr *x509.CertificateRequest, fixed map[string]string) error {
	names := append(list(fixed["common_name"]), list(fixed["alt_names"])...)
	ips, uris := list(fixed["ip_sans"]), list(fixed["uri_sans"])
	if len(names)+len(ips)+len(uris) == 0 {
		return nil
	}
	asked := append(slices.Clone(csr.DNSNames), csr.EmailAddresses...)
	if csr.Subject.CommonName != "" {
		asked = append(asked, csr.Subject.CommonName)
	}
	ok := within(asked, names, func(s string) string { return s }) &&
		within(csr.IPAddresses, ips, net.IP.String) && within(csr.URIs, uris, (*url.URL).String)
	if ok && onlyKnownNames(csr) {
		return nil
	}
	return &cred.Error{
		Kind: cred.Invalid, Op: "vault.issue", Reason: "CSR_NAMES_NOT_ALLOWED", Claim: paramCSR,
		Public: "the certificate request names something that this target does not; it may name " + strings.Join(slices.Concat(names, ips, uris), ", "),
	}
}

func list(comma string) []string {
	var out []string
	for part := range strings.SplitSeq(comma, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func within[T any](asked []T, allowed []string, text func(T) string) bool {
	return !slices.ContainsFunc(asked, func(a T) bool {
		return !slices.ContainsFunc(allowed, func(name string) bool { return strings.EqualFold(name, text(a)) })
	})
}

// onlyKnownNames reports whether a request's alternative names are all of the sorts that x509 reads:
// e-mail, DNS, URI and IP (RFC 5280, section 4.2.1.6, GeneralName 1, 2, 6, 7).
func onlyKnownNames(csr *x509.CertificateRequest) bool {
	for _, ext := range csr.Extensions {
		if !ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(ext.Value, &names); err != nil {
			return false
		}
		if slices.ContainsFunc(names, func(n asn1.RawValue) bool { return !slices.Contains([]int{1, 2, 6, 7}, n.Tag) }) {
			return false
		}
	}
	return true
}

// readPublicKey reads one SSH public key (RFC 4253, section 6.6) as a line of authorized_keys has it.
func readPublicKey(text string, _ map[string]string) (*ownKey, error) {
	const public = "the parameter public_key must be one line such as the content of ~/.ssh/id_ed25519.pub, and no certificate"
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return nil, badKey(paramPublicKey, public, err)
	}
	if _, certificate := key.(*ssh.Certificate); certificate || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, badKey(paramPublicKey, public, errors.New("vault: a certificate, options or more than one line"))
	}
	text = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	return &ownKey{param: paramPublicKey, text: text, signedAs: cred.SSHCertificate}, nil
}

func badKey(param, public string, err error) error {
	return &cred.Error{Kind: cred.Invalid, Op: "vault.issue", Reason: "PARAM_INVALID", Claim: param, Public: public, Err: err}
}
