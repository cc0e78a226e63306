# Everything that is done to this project. Go, make and a C compiler (for the
# race detector) are enough; what needs more says so.

GO ?= go
DOCKER ?= docker
IMAGE ?= ssebridge:dev
FUZZTIME ?= 30s
BENCH ?= .
TESTFLAGS ?=

# Tools are pinned, and live in bin/, which git does not see.
LINT_VERSION := v2.15.0
LINT := bin/golangci-lint-$(LINT_VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## start the demo: a broker, live data, the bridge and a page that follows it
	$(GO) build -o bin/ ./cmd/ssebridge ./cmd/ssebridge-demo
	@exec bin/ssebridge-demo

.PHONY: run-kafka
run-kafka: ## start the same demo on a real Kafka; needs Java 17 and Maven
	$(GO) build -o bin/ ./cmd/ssebridge ./cmd/ssebridge-demo
	@exec bin/ssebridge-demo -kafka

# What needs a tool that is absent skips and says how to get it. With
# SSEBRIDGE_TEST_REQUIRE=browser (a list) such a skip is a failure. Packages begin
# in this order, each once: the slow ones first, so that none is left at the end to
# run alone.
.PHONY: test
test: ## run every test with the race detector, on real parts
	$(GO) test -race -timeout 20m $(TESTFLAGS) ./sources/... ./deploy/... ./...

.PHONY: test-integration
test-integration: ## run the tests that start brokers and processes
	$(GO) test -race -timeout 20m $(TESTFLAGS) ./sources/... ./cmd/... ./deploy/...

.PHONY: e2e
e2e: ## run whole processes, brokers, browsers and proxies (SSEBRIDGE_TEST_REQUIRE=browser,… fails where one is missing)
	$(GO) test -v ./deploy/e2e/...

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (30s)
	@set -e; grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | while IFS=: read -r file target; do \
		target=$${target#func }; echo "$$file $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; \
	done

# Those of deploy/e2e measure the whole program and end with a table of ratios.
# SSEBRIDGE_BENCH_ROUNDS (5), SSEBRIDGE_BENCH_SECONDS (5, of each round) and
# SSEBRIDGE_BENCH_SHRINK (1, divides the clients) make them shorter.
.PHONY: bench
bench: ## run the benchmarks that match BENCH (all: three quarters of an hour)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -p 1 -timeout 3h ./...

.PHONY: bench-soak
bench-soak: ## follow 5,000 clients that come, go and stall, for SSEBRIDGE_BENCH_SOAK (10m)
	SSEBRIDGE_BENCH_SOAK=$${SSEBRIDGE_BENCH_SOAK:-10m} $(GO) test -run '^$$' -bench '^BenchmarkSoak$$' -timeout 3h ./deploy/e2e

.PHONY: lint
lint: $(LINT) ## look for mistakes, on Linux and for macOS
	$(LINT) run ./...
	GOOS=darwin $(GO) vet ./...

.PHONY: fmt
fmt: $(LINT) ## format the code
	$(LINT) fmt ./...

.PHONY: docs
docs: ## write the table of variables into README.md
	$(GO) test ./cmd/ssebridge -run '^TestReadmeHoldsTheReference$$' -update

.PHONY: update
update: ## rewrite the golden files
	$(GO) test ./cmd/ssebridge -update

.PHONY: image
image: ## build the container image IMAGE (ssebridge:dev) with DOCKER (docker)
	$(DOCKER) build -t $(IMAGE) --build-arg REVISION=$$(git rev-parse HEAD) .

.PHONY: ci
ci: ## do what the build server does
	.ci/run

$(LINT):
	GOBIN=$(CURDIR)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv bin/golangci-lint $@
