# Run 'make' for a list of what can be done here.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BUF := go tool -modfile=tools/buf/go.mod buf
GOLANGCI := .bin/golangci-lint
GOLANGCI_VERSION := v2.15.0
FUZZTIME ?= 20s

# The packages with goroutines of their own: what the race detector has to look at.
CONCURRENT := ./audit/... ./broker/... ./clients/... ./cred/... ./internal/... ./issuer/... ./proxy/... ./store/...

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build daypassd, daypass-proxy and daypass into .bin
	@mkdir -p .bin
	CGO_ENABLED=0 go build -trimpath -o .bin/ ./cmd/...

.PHONY: demo
demo: ## Show the main job on embedded defaults; needs Go alone (KEEP=1 leaves it running)
	@go run ./e2e/demo $(if $(KEEP),-keep)

.PHONY: test
test: prepare ## Run every test, with a real Vault and PostgreSQL (installs or builds what they need)
	CI=true go test -timeout 30m ./...

.PHONY: test-short
test-short: ## Run the tests that need nothing but Go, in under a minute
	go test -short -p 4 ./... # most of it waits

.PHONY: prepare
prepare: ## Install or build the real parts that the tests need; quick the second time
	@e2e/prepare

.PHONY: race
race: ## Run the tests of what is concurrent under the race detector
	go test -short -race $(CONCURRENT)

.PHONY: lint
lint: $(GOLANGCI) ## Check style, vet, the .proto files
	$(GOLANGCI) run ./...
	$(BUF) lint
	$(BUF) format --diff --exit-code proto

.PHONY: generate
generate: ## Generate Go from the .proto files, and the configuration reference
	$(BUF) generate
	go generate ./...

.PHONY: check-generated
check-generated: ## Fail where generated files are not what 'make generate' makes
	@before=$$(git status --porcelain); $(MAKE) --no-print-directory generate; after=$$(git status --porcelain); \
	if [ "$$before" != "$$after" ]; then echo "generated files are stale; run 'make generate':"; git diff --stat; exit 1; fi

.PHONY: breaking
breaking: ## Fail where the wire API breaks clients of the last commit that has it
	$(BUF) breaking --against '.git#ref=HEAD'

.PHONY: bench
bench: prepare ## Measure, as ratios to baselines in the same run; writes bench/latest.json
	@go run ./bench

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME each (20s), two at a time
	@for pkg in $$(go list ./...); do \
		go test -list '^Fuzz' $$pkg | sed -n "s|^Fuzz|$$pkg &|p"; \
	done | FUZZTIME=$(FUZZTIME) xargs -n 2 -P 2 bash tools/fuzz.sh

.PHONY: dist
dist: ## Build release binaries with checksums and a list of their modules into dist/
	@rm -rf dist; mkdir -p dist
	@for arch in amd64 arm64; do for cmd in daypassd daypass-proxy daypass; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '-s -w' -o dist/$$cmd-linux-$$arch ./cmd/$$cmd; \
	done; done
	@for bin in dist/*-amd64; do go version -m $$bin; done > dist/modules.txt
	@cd dist && sha256sum * > SHA256SUMS && cat SHA256SUMS

$(GOLANGCI):
	@echo "building golangci-lint $(GOLANGCI_VERSION), once (about three minutes)"
	@mkdir -p .bin
	GOBIN=$(CURDIR)/.bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
