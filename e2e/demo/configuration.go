package main

// shown is the part of the configuration that says who may have what.
func (w *world) shown() string {
	direct := ""
	if w.vault != nil {
		direct = `
  - name: client-certificate
    credential: { issuer: vault, path: pki/issue/demo, params: { method: write, common_name: job.example.com } }`
	}
	return `targets:
  - name: assistant
    credential: { issuer: upstream-key, path: chat }
    http: { upstream: "` + w.upstream.URL + `", allow_private: true }
    mask: { detectors: [secrets, pii] }` + direct + `
rules:
  - name: main-branch-may-ask
    who: >-
      principal.provider == "github-actions" &&
      principal.claims.repository_id == "300400500" &&
      principal.claims.ref == "refs/heads/main"
    may: [{ target: assistant }` + w.ifVault(`, { target: client-certificate }`) + `]
    ttl: 15m
`
}

func (w *world) ifVault(text string) string {
	if w.vault == nil {
		return ""
	}
	return text
}

// configuration is all of daypass.yaml.
func (w *world) configuration(listen string) string {
	issuers := ""
	if w.vault != nil {
		issuers = `
  - name: vault
    vault: { address: "` + w.vault.url + `", auth: { jwt: { role: daypass, audience: vault-demo } } }`
	}
	return `server:
  listen: ` + listen + `
  url: ` + w.broker + `
  tls: { certificate: pki/server.pem, private_key: pki/server.key, client_ca: pki/ca.pem }
proxies: [{ name: edge-1, targets: ["*"] }]
identity_providers:
  - name: github-actions
    issuer: ` + w.idp.URL() + `
    audiences: ["` + w.broker + `"]
    kind: workload
    allow_plain: true
issuers:
  - name: upstream-key
    static: { secrets: { chat: { token: "env:DEMO_UPSTREAM_KEY" } } }` + issuers + `
roles:
  auditor: principal.subject == "auditor"
` + w.shown()
}
