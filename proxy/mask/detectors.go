package mask

import (
	"fmt"
	"slices"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

// The groups of detectors. A group's name stands for all of its detectors.
const (
	Secrets = "secrets"
	PII     = "pii"
)

// Description tells people what a detector finds.
type Description struct {
	Name  string // as in configuration, in `[masked:NAME]` and in the audit log
	Group string // Secrets or PII
	Finds string // one line of plain English
}

// Detectors is a chosen set of detectors, compiled. It is immutable.
type Detectors struct{ enabled []*detector }

// Compile chooses detectors by their names or their groups' names, in any order; a repeated name
// counts once. No names is no detectors. An unknown name is an Invalid error.
func Compile(names []string) (*Detectors, error) {
	for _, name := range names {
		if !slices.ContainsFunc(detectors, func(d *detector) bool { return d.name == name || d.group == name }) {
			return nil, unknownDetector(name)
		}
	}
	var c Detectors
	for _, d := range detectors {
		if slices.Contains(names, d.name) || slices.Contains(names, d.group) {
			c.enabled = append(c.enabled, d)
		}
	}
	return &c, nil
}

func unknownDetector(name string) error {
	return &cred.Error{
		Kind: cred.Invalid, Op: "mask.compile", Reason: "UNKNOWN_DETECTOR",
		Public: fmt.Sprintf("there is no detector %q; use %s, %s, or one of: %s", name, Secrets, PII, strings.Join(Names(), ", ")),
	}
}

// Names lists every detector, group by group.
func Names() []string {
	names := make([]string, len(detectors))
	for i, d := range detectors {
		names[i] = d.name
	}
	return names
}

// Describe describes every detector in the order of Names.
func Describe() []Description {
	out := make([]Description, len(detectors))
	for i, d := range detectors {
		out[i] = Description{d.name, d.group, d.finds}
	}
	return out
}

// detector is one thing to look for. Where four bytes in a row fit one of its anchors, find decides.
type detector struct {
	name, group, finds string
	anchors            []anchor
	find               find
	back               int // how many bytes before its anchor a match may begin
}

// anchor holds the sets of bytes that the sieve looks for, at most four; see set for the notation.
type anchor []string

// find decides whether there is a match at an anchor at i. It looks at the text alone, never at
// where the text that has arrived so far ends, unless it answers undecided.
type find func(v *view, i int) match

// detectors is the list of all there are. The order is that in which finds that start at the same
// byte are preferred.
var detectors = []*detector{
	{
		name: "github-token", group: Secrets, find: findGitHub, anchors: []anchor{{"g", "h", "porus", "_"}},
		finds: "GitHub tokens: ghp_ gho_ ghr_ ghu_ ghs_, including installation tokens that hold a JWT",
	},
	{
		name: "github-fine-grained", group: Secrets, find: findGitHubFine, anchors: []anchor{{"g", "i", "t", "h"}},
		finds: "GitHub fine-grained personal access tokens: github_pat_",
	},
	{
		name: "aws-access-key-id", group: Secrets, find: findAWSKeyID, anchors: []anchor{{"A", "3KSBC", "TIC", "0-9A-Z"}},
		finds: "AWS access key IDs: AKIA ASIA ABIA ACCA A3T",
	},
	{
		name: "aws-secret-key", group: Secrets, find: findAWSSecret, anchors: []anchor{{"sS", "eE", "cC", "rR"}},
		finds: "AWS secret access keys: 40 base64 characters after the name 'secret access key' in any spelling",
	},
	{
		name: "slack-token", group: Secrets, find: findSlack, anchors: []anchor{{"x", "o", "x", "abceoprs"}, {"x", "a", "p", "p"}},
		finds: "Slack tokens: xoxb- xoxp- xoxe- xoxa- xoxr- xoxs- xoxc- xapp-",
	},
	{
		name: "slack-webhook", group: Secrets, find: findSlackHook, anchors: []anchor{{"h", "o", "o", "k"}},
		finds: "Slack webhook addresses under hooks.slack.com",
	},
	{
		name: "stripe-key", group: Secrets, find: findStripe, anchors: []anchor{{"sr", "k", "_", "tlp"}},
		finds: "Stripe secret and restricted keys: sk_live_ rk_test_ and so on",
	},
	{
		name: "google-api-key", group: Secrets, find: findGoogle, anchors: []anchor{{"A", "I", "z", "a"}},
		finds: "Google API keys: AIza",
	},
	{
		name: "anthropic-key", group: Secrets, find: findAnthropic, anchors: []anchor{{"s", "k", "-", "a"}},
		finds: "Anthropic keys and tokens: sk-ant-",
	},
	{
		name: "openai-key", group: Secrets, find: findOpenAI, anchors: []anchor{{"s", "k", "-", "0-9A-Za-z_"}},
		finds: "OpenAI keys: sk-proj- sk-svcacct- sk-admin-, and any sk- that holds T3BlbkFJ",
	},
	{
		name: "npm-token", group: Secrets, find: findNPM, anchors: []anchor{{"n", "p", "m", "_"}},
		finds: "npm access tokens: npm_",
	},
	{
		name: "pypi-token", group: Secrets, find: findPyPI, anchors: []anchor{{"p", "y", "p", "i"}},
		finds: "PyPI upload tokens: pypi-AgEIcHlwaS5vcmc",
	},
	{
		name: "gitlab-token", group: Secrets, find: findGitLab, anchors: []anchor{{"g", "l", "acdfiopr", "abfgimot"}},
		finds: "GitLab tokens: glpat- glrt- gldt- glcbt- glptt- glft- glsoat- glagent- gloas- glimt- glffct-",
	},
	{
		name: "vault-token", group: Secrets, find: findVault, anchors: []anchor{{"h", "v", "sbr", "."}, {"sbr", ".", "0-9A-Za-z", "0-9A-Za-z"}},
		finds: "Vault and OpenBao tokens: hvs. hvb. hvr., and s. b. r. with 24 characters",
	},
	{
		name: "huggingface-token", group: Secrets, find: findHuggingFace, anchors: []anchor{{"h", "f", "_", "0-9A-Za-z"}},
		finds: "Hugging Face tokens: hf_",
	},
	{
		name: "terraform-token", group: Secrets, find: findTerraform, back: terraformID, anchors: []anchor{{".", "a", "t", "l"}},
		finds: "HCP Terraform tokens: 14 characters and .atlasv1.",
	},
	{
		name: "copilot-token", group: Secrets, find: findCopilot, anchors: []anchor{{"t", "i", "d", "="}},
		finds: "GitHub Copilot session tokens: tid= to the closing hash",
	},
	{
		name: "jwt", group: Secrets, find: findJWT, anchors: []anchor{{"e", "y", "A-DI-L", "0-9A-Za-z_-"}},
		finds: "JSON Web Tokens, signed or encrypted, in compact form",
	},
	{
		name: "private-key", group: Secrets, find: findPEM, anchors: []anchor{{"bB", "eE", "gG", "iI"}},
		finds: "private keys in PEM, OpenSSH and PGP armour, from BEGIN to END; without an END, to the end of the text",
	},
	{
		name: "email", group: PII, find: findEmail, back: emailLocal, anchors: []anchor{{"@", "0-9A-Za-z"}, {"%", "4", "0", "0-9A-Za-z"}, {"\\", "u", "0", "0"}},
		finds: "e-mail addresses, also where the @ is written %40 or \\u0040",
	},
	{
		name: "credit-card", group: PII, find: findCard, anchors: []anchor{{"2-68", "0-9", "0-9", "0-9"}},
		finds: "payment card numbers of 13 to 19 digits: issuer's range, that brand's lengths, and check digit",
	},
	{
		name: "us-ssn", group: PII, find: findSSN, anchors: []anchor{{"0-8", "0-9", "0-9", " .+%-"}},
		finds: "US social security numbers written in three groups",
	},
	{
		name: "iban", group: PII, find: findIBAN, anchors: []anchor{{"A-Za-z", "A-Za-z", "0-9", "0-9"}},
		finds: "international bank account numbers: country's length and check digits",
	},
}
