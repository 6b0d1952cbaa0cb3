package config

import (
	"bytes"
	"fmt"
	"strings"
)

const referenceHead = `# daypass.yaml

<!-- Made of the comments in broker/config/{config,notices,providers,rotations}.go and broker/policy/source.go:
     go test ./broker/config -run Reference -update -->

The broker's configuration, in one file. Keys that are not listed here are errors, and so are values
of another type: numbers are not strings, and a duration needs a unit (` + "`90s`, `15m`, `8h`, `30d`" + `).
` + "`daypassd check --config daypass.yaml`" + ` reports every problem with its line and column.

A secret never stands in the file. A key that takes one takes a reference: ` + "`file:PATH`" + `, relative to the
folder of the file, or ` + "`env:NAME`" + `.

Expressions are [CEL](https://cel.dev). They see ` + "`principal`" + ` (provider, issuer, subject, name, kind, groups,
claims, actor), and those of rules also ` + "`request`" + ` (target, scopes, params, ttl, reason, binding), ` + "`target`" + ` (name, labels,
deliver) and ` + "`now`" + `. ` + "`x.matches(\"p\")`" + ` takes a literal RE2 pattern that must match all of x. An expression
that fails, for example because a claim is absent, is not true.

`

func renderReference(all []section) []byte {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	for _, s := range all {
		title := s.name
		if title == "Config" {
			title = "The file"
		}
		fmt.Fprintf(&b, "## %s\n\n", title)
		text := strings.TrimSpace(s.text)
		fmt.Fprintf(&b, "%s\n\n", text)
		b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
		for _, k := range s.keys {
			if k.name != "" {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.name, kindCell(k), presetCell(k), cell(k.text))
			}
		}
		b.WriteString("\n")
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

func kindCell(k key) string {
	if k.enum == "" {
		return k.kind
	}
	return k.kind + ": `" + strings.ReplaceAll(k.enum, ",", "`, `") + "`"
}

func presetCell(k key) string {
	if k.preset == "" {
		return ""
	}
	return "`" + k.preset + "`"
}

// cell puts a comment into one cell of a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
