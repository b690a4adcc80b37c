# CI runs `make test`; each of its steps can be run alone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:                           # the steps share one build folder, and two cores

export PATH := $(CURDIR)/target/tools/usr/bin:$(PATH)
# An incremental build costs more, for changes that CI does not make.
ifdef CI
export CARGO_INCREMENTAL := 0
endif

# A hanging test must not use up all of CI's time: each suite has so long. The longest, the console's, takes some 12 minutes.
UNIT_TIMEOUT := 30m
# Seconds for each fuzz target.
FUZZ_SECONDS := 60
FUZZ_TARGETS := $(notdir $(wildcard tests/fuzz/seeds/*))

.PHONY: help run test setup fmt fmt-fix words lint deny unit examples backends docs-check doc bench-test bench sdks bench-ledger soak bench-postgres bench-old-snapshot bench-console load load-deliveries attack campaign sbom deploy-check dist fresh-install deb-check fuzz fuzz-check clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Starts `postern demo`: a gateway, a sender and a backend, with data to look at
	@echo "Building Postern with the profile of the tests; make load builds and measures the release."
	cargo run --locked -- demo

test: setup words fmt lint deny unit examples backends docs-check bench-test doc fuzz-check deploy-check ## Everything that CI checks; installs missing tools
	@echo "make test: all of it passed"

setup: ## Installs the tools of the checks: cargo-deny, promtool, …
	@scripts/setup

fmt: ## Format, checked (make fmt-fix writes it)
	cargo fmt --check
	cargo fmt --check --manifest-path tests/fuzz/Cargo.toml

fmt-fix:
	cargo fmt
	cargo fmt --manifest-path tests/fuzz/Cargo.toml

lint: ## Clippy on all targets, warnings are errors
	cargo clippy --locked --all-targets -- -D warnings

words: ## The words of code and prose, against scripts/words.toml; the paths in CONTRIBUTING.md
	@scripts/check-words
	@grep -oE '`(src|tests|docs|deploy|fixtures|scripts)/[a-z0-9_/.-]+`' CONTRIBUTING.md | tr -d '`' | while read -r path; do \
	    [ -e "$$path" ] || { echo "CONTRIBUTING.md: $$path does not exist"; exit 1; }; \
	done

deny: ## Licences, duplicate and unwanted dependencies, sources, advisories
	cargo deny --locked check bans licenses sources
	@scripts/advisories

# The gateway tests wait for processes most of the time: with a thread for each core they take more than twice as long.
unit: ## All tests: unit, integration, documentation
	cargo test --locked --no-run --lib --bins --tests
	timeout $(UNIT_TIMEOUT) cargo test --locked --lib --bins
	for suite in $(filter-out it,$(patsubst tests/%.rs,%,$(wildcard tests/*.rs))); do timeout $(UNIT_TIMEOUT) cargo test --locked --test $$suite; done
	timeout $(UNIT_TIMEOUT) cargo test --locked --test it -- --test-threads 6
	timeout $(UNIT_TIMEOUT) cargo test --locked --doc

examples: ## The examples and the demo: the library verifies a callback, each answer is the expected one
	cargo run --locked --quiet --example verify
	cargo run --locked --quiet -- check --config examples/postern.toml
	cargo run --locked --quiet -- demo --once

backends: ## The example backends, in six languages, each against a real gateway with kill -9 in between
	@scripts/setup backends
	cargo build --locked --quiet --bin postern
	scripts/examples-check

sdks: ## The senders' own libraries sign or verify callbacks of a real gateway: Stripe's, Apple's, Alipay's, … (from npm and PyPI)
	@scripts/setup sdks
	cargo build --locked --quiet --bin postern
	target/tools/sdks/venv/bin/python scripts/sdk-check

docs-check: ## Links and anchors of all pages; the commands and the example callbacks of the pages are executed
	cargo build --locked --quiet --bin postern
	scripts/check-docs

bench-test: ## Every benchmark once, as a test
	timeout $(UNIT_TIMEOUT) cargo test --locked --benches

doc: ## The documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

bench: ## The criterion suite: each figure next to the bare digest of the same bytes
	cargo bench --locked

load: ## The release build under load, in turn with a bare hyper server and others; --open: past saturation (ARGS=--help)
	@scripts/setup load
	cargo build --locked --release --bin postern --example bare_hyper --example open_client
	python3 benches/load/run.py $(ARGS)

.PHONY: instructions
instructions: ## User instructions of a callback, by valgrind, against benches/instructions/allowed.txt (ARGS=--help)
	@command -v valgrind >/dev/null || { echo "valgrind is missing; run \`apt-get install valgrind\`"; exit 1; }
	cargo build --locked --release --bin postern
	python3 benches/instructions/run.py $(ARGS)

bench-ledger: ## The ledger at 0, 1, 5 and 20 million transactions; writes docs/benchmarks.md (ARGS=--help)
	cargo build --locked --release --example at_size
	python3 benches/ledger/run.py $(ARGS)

soak: ## A release server under load with retention of minutes: disk and memory are bounded (ARGS=--help)
	cargo build --locked --release --bin postern
	python3 benches/ledger/soak.py $(ARGS)

bench-postgres: ## The PostgreSQL engine under load: the table of docs/scaling.md (ARGS="--seconds 20 --only single")
	cargo bench --locked --bench postgres -- $(ARGS)

bench-old-snapshot: ## Load on PostgreSQL while a dump holds a snapshot: lost, doubled, medians (ARGS="--minutes 60 --rate 500")
	cargo bench --locked --bench old_snapshot -- $(ARGS)

bench-console: ## The console's pages with a million events, beside a ledger with one (ARGS=--help)
	cargo build --locked --release --bin postern --example console_fill
	python3 benches/console/run.py $(ARGS)

attack: ## The hostile calls, and one address that takes all it can, against the release build (ARGS=--help)
	cargo build --locked --release --bin postern
	python3 benches/attack/run.py $(ARGS)

campaign: ## A wrong secret for an hour under load on each engine, the release killed: lost, doubled (ARGS="--minutes 10")
	cargo build --locked --release --bin postern
	python3 benches/campaign/run.py $(ARGS)

load-deliveries: ## The release build draining a backlog, in turn with a bare hyper client (ARGS=--help)
	@scripts/setup load
	cargo build --locked --release --bin postern --example bare_hyper --example bare_client
	python3 benches/load/deliver.py $(ARGS)

sbom: ## The SBOM of the release build: target/postern.cdx.json
	@scripts/setup sbom
	@scripts/sbom

deploy-check: ## Alert rules and their tests, dashboard, systemd units, example configurations, the Helm chart
	@scripts/setup charts
	python3 scripts/deploy-check

# What a release holds. CI can make all; here is what a machine has toolchains for (scripts/dist).
DIST_TARGETS := x86_64-unknown-linux-musl x86_64-unknown-linux-gnu.2.17 aarch64-unknown-linux-musl

dist: ## What a release holds, into target/dist: binaries, .deb, SBOM, checksums (DIST_TARGETS=…)
	scripts/dist $(DIST_TARGETS)

fresh-install: ## From a bare Debian to the first delivery: package, archive, image, source, service. Root, minutes (ARGS="deb service")
	scripts/fresh-install $(ARGS)

deb-check: ## The package of `make dist`, installed and removed
	scripts/deb-check target/dist/postern_*.deb

# The fuzz package copies our lock file, so there is only one to maintain.
tests/fuzz/Cargo.lock: Cargo.lock tests/fuzz/Cargo.toml
	cp Cargo.lock $@

fuzz-check: tests/fuzz/Cargo.lock ## The fuzz targets compile
	cargo check --quiet --manifest-path tests/fuzz/Cargo.toml --target-dir target --no-default-features

# Without a sanitizer, which needs a nightly toolchain: the code has no `unsafe`. RUSTC_BOOTSTRAP lets the stable one count branches.
fuzz: tests/fuzz/Cargo.lock ## Each fuzz target for FUZZ_SECONDS, on the stable toolchain (FUZZ_TARGETS="verify head")
	@scripts/setup fuzz
	@failed=; export RUSTC_BOOTSTRAP=1; \
	cargo fuzz build -s none --fuzz-dir tests/fuzz any; \
	for target in $(FUZZ_TARGETS); do \
	    echo "== $$target, $(FUZZ_SECONDS) s"; \
	    mkdir -p tests/fuzz/corpus/$$target; \
	    FUZZ_TARGET=$$target cargo fuzz run -s none --fuzz-dir tests/fuzz any tests/fuzz/corpus/$$target tests/fuzz/seeds/$$target tests/fuzz/kept/$$target \
	        -- -max_total_time=$(FUZZ_SECONDS) -timeout=5 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
	        || failed="$$failed $$target"; \
	done; \
	if [ -n "$$failed" ]; then echo "fuzz: failed:$$failed; the inputs are in tests/fuzz/artifacts"; exit 1; fi

clean: ## Removes all build products
	cargo clean
	rm -rf tests/fuzz/Cargo.lock tests/fuzz/target tests/fuzz/artifacts
