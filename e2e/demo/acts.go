package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"github.com/daypass-io/daypass/broker/identity/identitytest"
)

// exchange is what a CI job does first.
func exchange(_ context.Context, s *stage, w *world) error {
	s.act("A CI job exchanges its own OIDC token. No secret is stored in CI.")
	claims := w.idp.GitHubClaims(w.broker, identitytest.GitHubJob{})
	if err := os.WriteFile(w.path("ci.jwt"), []byte(w.idp.Sign(claims)), 0o600); err != nil {
		return err
	}
	auditor := w.idp.PersonClaims(w.broker, "auditor")
	if err := os.WriteFile(w.path("auditor.jwt"), []byte(w.idp.Sign(auditor)), 0o600); err != nil {
		return err
	}
	s.typed("daypass exchange assistant --reason 'summarise the release' --id-token-file ci.jwt -o json")
	out, err := w.command("daypass", "exchange", "assistant", "--reason", "summarise the release", "--id-token-file", w.path("ci.jwt"), "-o", "json")
	if err != nil {
		return fmt.Errorf("the exchange failed: %w\n%s", err, out)
	}
	var answer struct {
		GrantID string `json:"grant_id"`
		Token   string `json:"grant_token"`
		Rule    string `json:"rule"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return err
	}
	w.grant, w.token = answer.GrantID, answer.Token
	s.shows(strings.ReplaceAll(out, answer.Token, answer.Token[:24]+"…"))
	return expect(answer.Rule == "main-branch-may-ask" && w.token != "", "the grant came by another rule than expected")
}

const chatPath = "/assistant/v1/chat/completions"

// throughTheProxy spends the grant token.
func throughTheProxy(ctx context.Context, s *stage, w *world) error {
	s.act("The job calls the API through the proxy, with the grant token in the key's place.")
	s.say("   The upstream answers with its own key, a GitHub token and an e-mail address.")
	s.typed(`curl ` + w.proxy + chatPath + ` -H "Authorization: Bearer $TOKEN" -d '{"model":"demo"}'`)
	status, body, err := w.chat(ctx, `{"model":"demo"}`)
	if err != nil {
		return err
	}
	s.shows(body)
	return errors.Join(
		expect(status == http.StatusOK, "status %d", status),
		w.leaks(body),
		expect(strings.Count(body, "[masked:") == 3, "three things should be masked"),
	)
}

// stream does the same with server-sent events, where every secret is split over several of them.
func stream(ctx context.Context, s *stage, w *world) error {
	s.act("The same as a stream: the secrets are split over many events, and masked all the same.")
	s.typed(`curl -N ` + w.proxy + chatPath + ` -H "Authorization: Bearer $TOKEN" -d '{"model":"demo","stream":true}'`)
	_, body, err := w.chat(ctx, `{"model":"demo","stream":true}`)
	if err != nil {
		return err
	}
	var text strings.Builder
	lines := bufio.NewScanner(strings.NewReader(body))
	events := 0
	for lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		if !found || data == "[DONE]" {
			continue
		}
		var event struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil || len(event.Choices) != 1 {
			return fmt.Errorf("an event that is no chat-completion chunk: %s", data)
		}
		events++
		text.WriteString(event.Choices[0].Delta.Content)
	}
	s.shows(fmt.Sprintf("%d events; the text that a client puts together from them:\n%s", events, text.String()))
	return errors.Join(
		w.leaks(text.String()),
		expect(strings.Contains(body, "[DONE]") && events > 5, "the stream is not whole: %d events", events),
		expect(strings.Count(text.String(), "[masked:") == 3, "three things should be masked"),
	)
}

// refused is a job from another branch.
func refused(_ context.Context, s *stage, w *world) error {
	s.act("A job on another branch asks for the same, and is told which rule and which claim refused it.")
	claims := w.idp.GitHubClaims(w.broker, identitytest.GitHubJob{Ref: "refs/heads/experiment"})
	if err := os.WriteFile(w.path("branch.jwt"), []byte(w.idp.Sign(claims)), 0o600); err != nil {
		return err
	}
	s.typed("daypass exchange assistant --id-token-file branch.jwt")
	out, err := w.command("daypass", "exchange", "assistant", "--id-token-file", w.path("branch.jwt"))
	code := exitCode(err)
	s.shows(fmt.Sprintf("%sexit code %d", out, code))
	return errors.Join(
		expect(code == 3, "the exit code should be 3 (denied)"),
		expect(strings.Contains(out, "main-branch-may-ask") && strings.Contains(out, "refs/heads/experiment"), "the refusal should name the rule and the claim"),
	)
}

// revoke ends the grant, and with it the token.
func revoke(ctx context.Context, s *stage, w *world) error {
	s.act("The grant is revoked; the same call is refused.")
	s.typed("DAYPASS_TOKEN=$TOKEN daypass grants revoke --reason 'job done'")
	out, err := w.command("daypass", "grants", "revoke", "--reason", "job done")
	if err != nil {
		return fmt.Errorf("the revocation failed: %w\n%s", err, out)
	}
	s.shows(out)
	s.typed(`curl ` + w.proxy + chatPath + ` -H "Authorization: Bearer $TOKEN" -d '{"model":"demo"}'`)
	status, body, err := w.chatUntilRefused(ctx)
	if err != nil {
		return err
	}
	s.shows(fmt.Sprintf("HTTP %d\n%s", status, body))
	return expect(status == http.StatusForbidden, "status %d in place of 403", status)
}

// history is what an auditor reads.
func history(_ context.Context, s *stage, w *world) error {
	s.act("An auditor reads the grant's history: who, what, by which rule, what came back.")
	s.typed("daypass audit export --grant " + w.grant + " --id-token-file auditor.jwt")
	out, err := w.exportWith(w.grant, "use.refused")
	if err != nil {
		return err
	}
	s.shows(historyTable(out))
	for _, kind := range []string{"exchange.granted", "lease.intent", "lease.issued", "use.begin", "use.end", "grant.revoked", "use.refused"} {
		if !strings.Contains(out, `"kind":"`+kind+`"`) {
			return fmt.Errorf("the history lacks %s", kind)
		}
	}
	return nil
}

// verify proves the log, and then that a changed byte is found.
func verify(_ context.Context, s *stage, w *world) error {
	s.act("The log proves itself offline, against the key that 'daypassd init' printed.")
	s.typed("daypass audit export --id-token-file auditor.jwt -f log.jsonl && daypass audit verify --key $KEY log.jsonl")
	if out, err := w.command("daypass", "audit", "export", "--id-token-file", w.path("auditor.jwt"), "-f", w.path("log.jsonl")); err != nil {
		return fmt.Errorf("the export failed: %w\n%s", err, out)
	}
	out, err := w.command("daypass", "audit", "verify", "--key", w.logKey, w.path("log.jsonl"))
	s.shows(out)
	if err != nil {
		return fmt.Errorf("the log does not verify: %w", err)
	}
	s.say("   One byte changed in a copy, the name of the rule that granted:")
	s.typed("sed 's/main-branch-may-ask/main-branch-may-asK/' log.jsonl > copy.jsonl; daypass audit verify --key $KEY copy.jsonl")
	log, err := os.ReadFile(w.path("log.jsonl"))
	if err != nil {
		return err
	}
	changed := bytes.Replace(log, []byte("main-branch-may-ask"), []byte("main-branch-may-asK"), 1)
	if err := os.WriteFile(w.path("copy.jsonl"), changed, 0o600); err != nil {
		return err
	}
	out, err = w.command("daypass", "audit", "verify", "--key", w.logKey, w.path("copy.jsonl"))
	s.shows(fmt.Sprintf("%sexit code %d", out, exitCode(err)))
	return expect(!bytes.Equal(log, changed) && exitCode(err) == 1, "a changed log should not verify")
}

// chat calls the upstream through the proxy.
func (w *world) chat(ctx context.Context, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.proxy+chatPath, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// chatUntilRefused calls until the revocation has reached the proxy: within a second, which is some
// calls.
func (w *world) chatUntilRefused(ctx context.Context) (status int, body string, err error) {
	for range 200 {
		if status, body, err = w.chat(ctx, `{"model":"demo"}`); err != nil || status != http.StatusOK {
			return status, body, err
		}
	}
	return status, body, err
}

// exportWith exports a grant's history, again until the proxy has shipped the entry that is expected.
func (w *world) exportWith(grant, kind string) (out string, err error) {
	for range 100 {
		out, err = w.command("daypass", "audit", "export", "--grant", grant, "--id-token-file", w.path("auditor.jwt"))
		if err != nil {
			return out, fmt.Errorf("the export failed: %w\n%s", err, out)
		}
		if strings.Contains(out, `"kind":"`+kind+`"`) {
			return out, nil
		}
	}
	return out, fmt.Errorf("the proxy did not ship %s", kind)
}

// leaks fails if one of the upstream's secrets is in a text.
func (w *world) leaks(text string) error {
	for name, secret := range map[string]string{"key": w.upstream.key, "GitHub token": w.upstream.trained, "e-mail address": w.upstream.email} {
		if strings.Contains(text, secret) {
			return fmt.Errorf("the upstream's %s came through", name)
		}
	}
	return nil
}

// historyTable shows an export's entries, a line each.
func historyTable(export string) string {
	var b strings.Builder
	for line := range strings.Lines(export) {
		var row struct {
			Entry struct {
				Seq      uint64 `json:"seq"`
				Kind     string `json:"kind"`
				Time     string `json:"time"`
				Decision *struct {
					Rule string `json:"rule"`
				} `json:"decision"`
				Use *struct {
					Method string `json:"method"`
					Path   string `json:"path"`
					Status int    `json:"status"`
					Masked []struct {
						Detector string `json:"detector"`
						Count    int    `json:"count"`
					} `json:"masked"`
				} `json:"use"`
			} `json:"entry"`
		}
		if json.Unmarshal([]byte(line), &row) != nil || row.Entry.Kind == "" {
			continue
		}
		e := row.Entry
		fmt.Fprintf(&b, "%4d  %.23s  %-17s", e.Seq, e.Time, e.Kind)
		if e.Decision != nil {
			fmt.Fprintf(&b, " rule %s", e.Decision.Rule)
		}
		if e.Use != nil {
			fmt.Fprintf(&b, " %s %s", e.Use.Method, e.Use.Path)
			if e.Use.Status != 0 {
				fmt.Fprintf(&b, " %d", e.Use.Status)
			}
			for _, m := range e.Use.Masked {
				fmt.Fprintf(&b, " %s×%d", m.Detector, m.Count)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func expect(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}
