// Package e2e tests daypass across real processes and real peers: daypassd, daypass-proxy and daypass
// as they are built, a real Vault and a real PostgreSQL.
package e2e
