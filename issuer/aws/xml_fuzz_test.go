package aws

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/daypass-io/daypass/internal/tokenapi"
)

const example = `<?xml version="1.0"?>
<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/deploy/gr_1</Arn><AssumedRoleId>AROA:gr_1</AssumedRoleId></AssumedRoleUser>
    <Credentials><SessionToken>IQoJ+/==</SessionToken><SecretAccessKey>a/b+c</SecretAccessKey><Expiration>2026-11-22T06:00:00Z</Expiration><AccessKeyId>ASIAAAAAAAAAAAAAAAAA</AccessKeyId></Credentials>
    <SourceIdentity>gr_1</SourceIdentity>
  </AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>`

// FuzzSession: what is taken for a session has fields that can't break out of a header, stands in the
// answer, and is what encoding/xml itself finds there.
func FuzzSession(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(strings.ReplaceAll(example, "<SessionToken>", "<SessionToken><![CDATA[x]]>")))
	f.Add([]byte(strings.ReplaceAll(example, "IQoJ", "&#73;Q&lt;J")))
	f.Add([]byte(`<!DOCTYPE x>` + example))
	f.Add([]byte(strings.ReplaceAll(example, "<Credentials>", "<Credentials/><Credentials>")))
	f.Add([]byte(`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := readSession(body)
		if err != nil {
			return
		}
		secret, token := s.secret.RevealString(), s.token.RevealString()
		for _, field := range []string{s.keyID, secret, token} {
			if !tokenapi.Printable(field) {
				t.Errorf("took %q", field)
			}
		}
		var plain struct {
			XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
			Result  struct {
				Credentials struct {
					AccessKeyID     string `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AccessKeyId"`
					SecretAccessKey string `xml:"https://sts.amazonaws.com/doc/2011-06-15/ SecretAccessKey"`
					SessionToken    string `xml:"https://sts.amazonaws.com/doc/2011-06-15/ SessionToken"`
				} `xml:"https://sts.amazonaws.com/doc/2011-06-15/ Credentials"`
			} `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResult"`
		}
		if err := xml.Unmarshal(body, &plain); err != nil {
			t.Fatalf("encoding/xml does not take it: %v", err)
		}
		got := plain.Result.Credentials
		trim := strings.TrimSpace
		if diff := cmp.Diff([]string{s.keyID, secret, token}, []string{trim(got.AccessKeyID), trim(got.SecretAccessKey), trim(got.SessionToken)}); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzXML: what is taken is one well-formed document, nests no deeper than it may, and reads the same
// when it is written out again.
func FuzzXML(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(`<a xmlns="x"><b xmlns="y">1</b><b>&amp;</b></a>`))
	f.Add([]byte(strings.Repeat("<a>", 13) + strings.Repeat("</a>", 13)))
	f.Add([]byte("<a>x<b/></a>"))
	f.Add([]byte("<a/><a/>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := readXML(body)
		if err != nil {
			return
		}
		if depth(e) > maxDepth {
			t.Errorf("took %d levels", depth(e))
		}
		for d, n := xml.NewDecoder(bytes.NewReader(body)), 0; ; n++ {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("token %d is not well-formed: %v", n, err)
			}
		}
		again, err := readXML([]byte(write(e)))
		if err != nil {
			t.Fatalf("%q: %v", write(e), err)
		}
		if write(again) != write(e) {
			t.Errorf("read %q, then %q", write(e), write(again))
		}
	})
}

func depth(e *element) (n int) {
	for _, kid := range e.kids {
		n = max(n, depth(kid))
	}
	return n + 1
}

// write writes an element without its namespaces: names can hold what no prefix can.
func write(e *element) string {
	var out strings.Builder
	out.WriteString("<e>")
	for _, kid := range e.kids {
		out.WriteString(write(kid))
	}
	_ = xml.EscapeText(&out, []byte(e.text))
	out.WriteString("</e>")
	return out.String()
}
