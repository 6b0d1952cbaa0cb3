package mask

import "strings"

// sample is a text that a detector must find: all of token, which stands between before and after.
type sample struct{ detector, token string }

// rep makes n characters out of parts, so that no live-looking secret stands in this file.
func rep(alphabet string, n int) string {
	return strings.Repeat(alphabet, n/len(alphabet)+1)[:n]
}

const (
	mixed  = "aB3dE5fG7hJ9kL1mN"
	upper  = "Q2W3E4R5T6Y7"
	hexes  = "0a1b2c3d4e5f6789"
	header = "eyJ" + "hbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9"
)

func jwtSample() string { return header + ".eyJ" + rep("zdWIiOiIx", 40) + "." + rep(mixed+"-_", 86) }

// samples holds at least one token of every detector.
func samples() []sample {
	return []sample{
		{"github-token", "gh" + "p_" + rep(mixed, 36)},
		{"github-token", "gh" + "o_" + rep(mixed, 36)},
		{"github-token", "gh" + "s_" + "123456_" + jwtSample()},
		{"github-token", "gh" + "u_" + rep(mixed, 40)},
		{"github-fine-grained", "github" + "_pat_" + rep(mixed+"_", 82)},
		{"aws-access-key-id", "AK" + "IA" + rep(upper, 16)},
		{"aws-access-key-id", "AS" + "IA" + rep(upper, 16)},
		{"slack-token", "xo" + "xb-" + rep("1234567890", 12) + "-" + rep("1234567890", 12) + "-" + rep(mixed, 24)},
		{"slack-token", "xa" + "pp-1-A" + rep(upper, 10) + "-" + rep("12345", 13) + "-" + rep(hexes, 64)},
		{"slack-webhook", "hooks." + "slack.com/services/T" + rep(upper, 8) + "/B" + rep(upper, 8) + "/" + rep(mixed, 24)},
		{"slack-webhook", "hooks." + `slack.com\/services\/T` + rep(upper, 8) + `\/B` + rep(upper, 8) + `\/` + rep(mixed, 24)},
		{"stripe-key", "sk_" + "live_" + rep(mixed, 24)},
		{"stripe-key", "rk_" + "test_" + rep(mixed, 99)},
		{"google-api-key", "AI" + "za" + rep(mixed+"-_", 35)},
		{"anthropic-key", "sk-" + "ant-api03-" + rep(mixed+"-_", 93) + "AA"},
		{"anthropic-key", "sk-" + "ant-oat01-" + rep(mixed+"-_", 80)},
		{"openai-key", "sk-" + "proj-" + rep(mixed+"-_", 74) + "T3Blbk" + "FJ" + rep(mixed+"-_", 74)},
		{"openai-key", "sk-" + rep(mixed, 20) + "T3Blbk" + "FJ" + rep(mixed, 20)},
		{"npm-token", "npm" + "_" + rep(mixed, 36)},
		{"pypi-token", "pypi-" + "AgEIcHlwaS5vcmc" + rep(mixed+"-_", 160)},
		{"gitlab-token", "gl" + "pat-" + rep(mixed+"-_", 20)},
		{"gitlab-token", "gl" + "rt-" + rep(mixed, 20) + ".01." + rep(mixed, 9)},
		{"vault-token", "hv" + "s." + rep(mixed+"-_", 95)},
		{"vault-token", "hv" + "b." + rep(mixed+"-_", 150)},
		{"vault-token", "s" + "." + rep(mixed, 24)},
		{"huggingface-token", "hf" + "_" + rep("aBcDeFgHi", 34)},
		{"terraform-token", rep(mixed, 14) + ".atlas" + "v1." + rep(mixed+"-_", 67)},
		{"copilot-token", "ti" + "d=" + rep(hexes, 32) + ";exp=1765000000;sku=copilot_for_business_seat;st=dotcom;8kp=1:" + rep(hexes, 64)},
		{"jwt", jwtSample()},
		{"jwt", header + "." + rep(mixed, 30) + "." + rep(mixed, 16) + "." + rep(mixed, 90) + "." + rep(mixed, 22)},
		{"email", "jane.o+tag_x@mail.example.co.uk"},
		{"email", "jane%40example.com"},
		{"credit-card", "4111 1111 1111 1111"},
		{"credit-card", "5555555555554444"},
		{"credit-card", "3782-822463-10005"},
		{"credit-card", "6011000990139424"},
		{"us-ssn", "536-90-4399"},
		{"us-ssn", "536 90 4399"},
		{"iban", "DE89370400440532013000"},
		{"iban", "GB82 WEST 1234 5698 7654 32"},
		{"iban", "no9386011117947"},
	}
}
