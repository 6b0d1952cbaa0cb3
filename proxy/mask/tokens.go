package mask

import "bytes"

// token is the commonest detector: a literal prefix, then a run of at least least bytes of a class.
// The whole run is masked, so a vendor that makes its tokens longer gives nothing away.
func (v *view) token(i int, prefix string, c *class, least int) match {
	if is := v.literal(i, prefix); is != found {
		return match{verdict: is}
	}
	return v.runFrom(i, i+len(prefix), c, least)
}

// runFrom matches from start where a run of at least least bytes begins at body.
func (v *view) runFrom(start, body int, c *class, least int) match {
	end, is := v.run(c, body, maxRun)
	if is == undecided {
		return needsMore
	}
	if end-body < least {
		return noMatch
	}
	m := matched(start, end)
	if end-body == maxRun {
		m.grow = c
		return m
	}
	for end > body+least && v.buf[end-1] == '.' { // the full stop of a sentence
		end--
	}
	m.end = end
	return m
}

// findGitHub: installation and user-to-server tokens carry an app ID and a JWT since April 2026, so
// they hold '_', '.' and '-' and have no fixed length.
func findGitHub(v *view, i int) match {
	if i+3 > len(v.buf) {
		return match{verdict: v.atEnd()}
	}
	if c := v.buf[i+2]; c == 's' || c == 'u' {
		return v.token(i, string([]byte{'g', 'h', c, '_'}), dotClass, 36)
	}
	return v.runFrom(i, i+4, alnumClass, 36)
}

func findGitHubFine(v *view, i int) match { return v.token(i, "github_pat_", wordClass, 70) }

// findAWSKeyID needs no word boundary: sixteen base32 characters behind the prefix are seldom chance.
func findAWSKeyID(v *view, i int) match {
	prefixes := [...]string{"AKIA", "ASIA", "ABIA", "ACCA", "A3T"}
	for _, p := range prefixes {
		switch v.literal(i, p) {
		case undecided:
			return needsMore
		case found:
			m := v.runFrom(i, i+4, upperClass, 16)
			if m.verdict == found && !isBase32(v.buf[i+4:i+20]) {
				return noMatch
			}
			return m
		}
	}
	return noMatch
}

func isBase32(b []byte) bool {
	for _, c := range b {
		if !('A' <= c && c <= 'Z' || '2' <= c && c <= '7') {
			return false
		}
	}
	return true
}

func findSlack(v *view, i int) match {
	if is := v.literal(i+4, "-"); is != found {
		return match{verdict: is}
	}
	m := v.runFrom(i, i+5, dashClass, 20)
	if m.verdict == found && !bytes.ContainsAny(v.buf[i+5:i+21], "0123456789") {
		return noMatch
	}
	return m
}

// findSlackHook masks the whole address but its scheme. Some encoders write '/' as `\/`.
func findSlackHook(v *view, i int) match {
	if is := v.literal(i, "hooks.slack.com"); is != found {
		return match{verdict: is}
	}
	end := i + len("hooks.slack.com")
	parts := 0
	for {
		next, is := v.slash(end)
		if is == undecided {
			return needsMore
		}
		if is == none {
			break
		}
		if end, is = v.run(dashClass, next, maxRun); is == undecided {
			return needsMore
		}
		if end == next {
			return noMatch
		}
		if end-next == maxRun {
			return match{verdict: found, start: i, end: end, grow: dashClass}
		}
		if parts++; parts == 8 {
			break
		}
	}
	if parts < 3 {
		return noMatch
	}
	return matched(i, end)
}

// slash returns the place behind a '/', a `\/` or a %2F at i.
func (v *view) slash(i int) (int, verdict) {
	for _, s := range [...]string{"/", `\/`, "%2F", "%2f"} {
		if is := v.literal(i, s); is == found {
			return i + len(s), found
		} else if is == undecided {
			return i, undecided
		}
	}
	return i, none
}

// findStripe: "task_test_integration" is no key, so a prefix inside a word needs the length of one.
func findStripe(v *view, i int) match {
	for _, kind := range [...]string{"k_test_", "k_live_", "k_prod_"} {
		switch v.literal(i+1, kind) {
		case undecided:
			return needsMore
		case found:
			least := 10
			if !v.wordStart(i) {
				least = 24
			}
			return v.runFrom(i, i+1+len(kind), alnumClass, least)
		}
	}
	return noMatch
}

func findGoogle(v *view, i int) match { return v.token(i, "AIza", dashClass, 35) }

// findAnthropic: the prefix inside a word is seldom one ("task-ant-colony-...").
func findAnthropic(v *view, i int) match {
	if !v.wordStart(i) {
		return noMatch
	}
	return v.token(i, "sk-ant-", dashClass, 32)
}

// findOpenAI: older keys hold "OpenAI" in base64; those of today have a kind behind sk-.
func findOpenAI(v *view, i int) match {
	m := v.token(i, "sk-", dashClass, 40)
	if m.verdict != found {
		return m
	}
	body := v.buf[i+3 : m.end]
	if bytes.Contains(body[:min(len(body), 256)], []byte("T3BlbkFJ")) {
		return m
	}
	for _, kind := range [...]string{"proj-", "svcacct-", "admin-", "None-"} {
		if bytes.HasPrefix(body, []byte(kind)) && v.wordStart(i) && bytes.ContainsAny(body[:40], "0123456789") {
			return m
		}
	}
	return noMatch
}

func findNPM(v *view, i int) match  { return v.token(i, "npm_", alnumClass, 36) }
func findPyPI(v *view, i int) match { return v.token(i, "pypi-AgEIcHlwaS5vcmc", dashClass, 50) }

func findGitLab(v *view, i int) match {
	kinds := [...]string{"pat-", "rt-", "dt-", "cbt-", "ptt-", "ft-", "soat-", "agent-", "oas-", "imt-", "ffct-"}
	for _, kind := range kinds {
		switch v.literal(i+2, kind) {
		case undecided:
			return needsMore
		case found:
			return v.runFrom(i, i+2+len(kind), dotClass, 20)
		}
	}
	return noMatch
}

// findVault: a service token of today begins with hvs. and has 24 characters or some 90; one of
// before Vault 1.10, and OpenBao's, is s. and exactly 24. Code such as s.aLongMethodName must not match.
func findVault(v *view, i int) match {
	if v.buf[i] == 'h' {
		return v.runFrom(i, i+4, dashClass, 24)
	}
	if !v.wordStart(i) {
		return noMatch
	}
	m := v.runFrom(i, i+2, dashClass, 24)
	if m.verdict == found && (m.end != i+26 || !looksRandom(v.buf[i+2:m.end])) {
		return noMatch
	}
	return m
}

// looksRandom reports whether letters and digits were hardly written by a person: a digit among
// them, or a quarter of them in upper case.
func looksRandom(b []byte) bool {
	upper := 0
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			return true
		case 'A' <= c && c <= 'Z':
			upper++
		case c == '_' || c == '-':
			return false
		}
	}
	return upper*4 >= len(b)
}

func findHuggingFace(v *view, i int) match { return v.token(i, "hf_", alnumClass, 34) }

// terraformID is the length of what stands before ".atlasv1.".
const terraformID = 14

func findTerraform(v *view, i int) match {
	start := i
	for start > 0 && i-start < terraformID && alnumClass.in[v.buf[start-1]] {
		start--
	}
	m := v.token(i, ".atlasv1.", base64Class, 60)
	if m.verdict == found && i-start < terraformID {
		return noMatch
	}
	m.start = start
	return m
}

// findCopilot: GitHub does not document the form. It is a list of name=value with ';' between, and
// a MAC in hex behind a ':' at its end.
func findCopilot(v *view, i int) match {
	m := v.token(i, "tid=", fieldClass, 64)
	if m.verdict != found {
		return m
	}
	body := v.buf[i+4 : m.end]
	id := bytes.IndexByte(body, ';')
	mac := bytes.LastIndexByte(body, ':') + 1
	if id < 16 || !allHex(body[:id]) || mac == 0 || len(body)-mac < 32 || !allHex(body[mac:mac+32]) {
		return noMatch
	}
	return m
}

func allHex(b []byte) bool {
	for _, c := range b {
		if !hexClass.in[c] {
			return false
		}
	}
	return true
}

// maxJWTHeader bounds a JWT's first part, which may hold a chain of certificates (x5c).
const maxJWTHeader = 16 << 10

// findJWT takes signed and encrypted tokens (RFC 7515 and 7516, compact form): a header that is a JSON
// object, and two to four more parts. The prefix may stand inside a longer token.
func findJWT(v *view, i int) match {
	header, is := v.run(dashClass, i, maxJWTHeader)
	if is == undecided {
		return needsMore
	}
	if header-i < 19 {
		return noMatch
	}
	if is := v.literal(header, "."); is != found {
		return match{verdict: is}
	}
	m := v.runFrom(i, header+1, dotClass, 18)
	if m.verdict == found && m.grow == nil && bytes.IndexByte(v.buf[header+1:m.end], '.') < 0 {
		return noMatch
	}
	return m
}
