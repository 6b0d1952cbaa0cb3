package oauth

// OpenAI returns the settings of OpenAI's workload identity federation: the broker's ID token is
// exchanged for an access token of a service account. Source: OpenAI's API reference, "Workload
// identity federation". The service has no scopes and no revocation.
func OpenAI(subject Signer, identityProvider, serviceAccount string) Config {
	return Config{ //nolint:gosec // G101: addresses and names alone
		TokenURL: "https://auth.openai.com/oauth/token", Grant: TokenExchange, JSON: true, NoScopes: true,
		Subject: subject, Audience: "https://api.openai.com/v1",
		Extra: map[string]string{"identity_provider_id": identityProvider, "service_account_id": serviceAccount},
	}
}

// Anthropic returns the settings of Anthropic's workload identity federation: the broker's ID token is
// the assertion of a JWT bearer grant. Service account and workspace may be empty. Source:
// anthropics/anthropic-sdk-go, internal/auth/workload.go. The service has no scopes and no revocation;
// requests that spend the token need the header "anthropic-beta: oauth-2025-04-20".
func Anthropic(subject Signer, rule, organization, serviceAccount, workspace string) Config {
	extra := map[string]string{"federation_rule_id": rule, "organization_id": organization}
	for name, value := range map[string]string{"service_account_id": serviceAccount, "workspace_id": workspace} {
		if value != "" {
			extra[name] = value
		}
	}
	return Config{ //nolint:gosec // G101: addresses and names alone
		TokenURL: "https://api.anthropic.com/v1/oauth/token", Grant: JWTBearer, JSON: true, NoScopes: true,
		Subject: subject, Audience: "https://api.anthropic.com", Extra: extra,
		Header: map[string]string{"anthropic-beta": "oauth-2025-04-20,oidc-federation-2026-04-01"},
	}
}
