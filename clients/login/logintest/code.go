package logintest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// authorization is what a code stands for.
type authorization struct {
	redirect, challenge, nonce string
	family                     *family
}

// authorize is the authorization endpoint (RFC 6749, section 4.1.1; RFC 7636, section 4.3).
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if problem := checkAuthorize(q); problem != "" {
		http.Error(w, problem, http.StatusBadRequest)
		return
	}
	answer := map[string]any{"state": q.Get("state")}
	if p.is.SaysIssuer {
		answer["iss"] = p.URL
	}
	if p.is.Deny {
		answer["error"], answer["error_description"] = "access_denied", "the person said no"
	} else {
		code := rand.Text()
		again := slices.Contains(strings.Fields(q.Get("prompt")), "login") || q.Get("max_age") == "0"
		p.codes[code] = authorization{q.Get("redirect_uri"), q.Get("code_challenge"), q.Get("nonce"), p.signIn(again)}
		answer["code"] = code
	}
	if p.is.Answer != nil {
		p.is.Answer(answer)
	}
	back := q.Get("redirect_uri") + "?" + encode(answer)
	if p.is.Page {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><title>sign in</title><a id=\"go\" href=\"%s\">go on</a><script>document.getElementById('go').click()</script>", html.EscapeString(back))
		return
	}
	http.Redirect(w, r, back, http.StatusFound)
}

func encode(answer map[string]any) string {
	out := url.Values{}
	for name, value := range answer {
		if list, ok := value.([]string); ok {
			out[name] = list
		} else {
			out.Set(name, fmt.Sprint(value))
		}
	}
	return out.Encode()
}

func checkAuthorize(q url.Values) string {
	redirect, err := url.Parse(q.Get("redirect_uri"))
	switch {
	case !only(q, "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "prompt", "max_age"):
		return "a parameter that nobody knows, or one that is there twice"
	case q.Get("response_type") != "code", q.Get("client_id") != ClientID:
		return "wrong response type or client"
	case err != nil || redirect.Scheme != "http" || net.ParseIP(redirect.Hostname()).String() != "127.0.0.1" || redirect.Port() == "" || redirect.Path != "/callback" || redirect.RawQuery != "":
		return "the redirect is not the one that is registered"
	case !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		return "no openid"
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43:
		return "no PKCE with S256"
	case len(q.Get("state")) < 20 || len(q.Get("nonce")) < 20:
		return "state or nonce can be guessed"
	}
	return ""
}

// token is the token endpoint.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.URL.RawQuery != "" || r.Header.Get("Authorization") != "" {
		refuse(w, http.StatusBadRequest, "invalid_request", "not a form, or a client that authenticates")
		return
	}
	form := r.PostForm
	p.counts[form.Get("grant_type")]++
	if form.Get("client_id") != ClientID {
		refuse(w, http.StatusBadRequest, "invalid_client", "unknown client")
		return
	}
	switch form.Get("grant_type") {
	case "authorization_code":
		p.redeemCode(w, form)
	case "refresh_token":
		p.refresh(w, form)
	case "urn:ietf:params:oauth:grant-type:device_code":
		p.pollDevice(w, form)
	default:
		refuse(w, http.StatusBadRequest, "unsupported_grant_type", "unknown grant type")
	}
}

// redeemCode takes a code once, for the redirect and the verifier that it was made for.
func (p *Provider) redeemCode(w http.ResponseWriter, form url.Values) {
	a, ok := p.codes[form.Get("code")]
	delete(p.codes, form.Get("code"))
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	switch {
	case !only(form, "grant_type", "code", "redirect_uri", "client_id", "code_verifier"):
		refuse(w, http.StatusBadRequest, "invalid_request", "a parameter that nobody knows")
	case !ok, a.redirect != form.Get("redirect_uri"):
		refuse(w, http.StatusBadRequest, "invalid_grant", "no such code")
	case a.challenge != base64.RawURLEncoding.EncodeToString(sum[:]):
		refuse(w, http.StatusBadRequest, "invalid_grant", "the verifier does not fit")
	default:
		p.issue(w, a.family, a.nonce)
	}
}

// refresh rotates (RFC 9700, section 4.14.2): a token that comes a second time ends the sign-in.
func (p *Provider) refresh(w http.ResponseWriter, form url.Values) {
	tok := form.Get("refresh_token")
	if reused := p.spent[tok]; reused != nil {
		reused.ended = true
	}
	f := p.families[tok]
	if f == nil || f.ended || !only(form, "grant_type", "refresh_token", "client_id", "scope") {
		refuse(w, http.StatusBadRequest, "invalid_grant", "no such refresh token")
		return
	}
	answer := map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 300}
	if !p.is.NoIDTokenRefresh {
		answer["id_token"] = p.idToken(f, "")
	}
	if !p.is.KeepRefresh {
		delete(p.families, tok)
		p.spent[tok] = f
		answer["refresh_token"] = p.newRefresh(f)
	}
	writeJSON(w, http.StatusOK, answer)
}

// revoke is RFC 7009: an unknown token is revoked already.
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("client_id") != ClientID || !only(r.PostForm, "token", "token_type_hint", "client_id") {
		refuse(w, http.StatusUnauthorized, "invalid_client", "unknown client")
		return
	}
	if f := p.families[r.PostForm.Get("token")]; f != nil {
		f.ended = true
	}
}
