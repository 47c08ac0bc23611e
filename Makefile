# What can be run here. The work is done by cargo and by the scripts beside this file.

.DEFAULT_GOAL := help
.PHONY: help test check chaos schema load bench

help: ## List what can be run
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## Run every test, on real Redis and Postgres (installed if they are missing)
	scripts/install-stores
	cargo test --locked

check: ## Formatting, lints, documentation, licences
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
	scripts/licences

# One after the other, so that they do not starve each other; what they print is what docs/RELIABILITY.md tells.
chaos: ## The long forms of the tests that break something, about two hours (USHER_CHAOS_SEED replays a run)
	scripts/install-stores
	USHER_CHAOS=1 cargo test --locked --no-fail-fast --lib
	USHER_CHAOS=1 cargo test --locked --no-fail-fast --test schedules -- --nocapture
	USHER_CHAOS=1 cargo test --locked --no-fail-fast --test it -- --nocapture --test-threads=1 chaos:: faults:: hostile linear equal

schema: ## Compare the service with its OpenAPI document (SCHEMA_SEED replays a run, SCHEMA_EXAMPLES makes it longer)
	scripts/schema-check

load: ## Run the k6 flows on private Redis, Postgres and two instances
	scripts/load

bench: ## Measure every path beside a bare server, and write docs/BENCHMARKS.md (BENCH_ONLY=join,status for a part)
	scripts/bench
