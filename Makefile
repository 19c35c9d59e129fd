# make test, make test PG=18, make test PG_CONFIG=/path/to/pg_config
PG ?=
PG_CONFIG ?=
DESTDIR ?=
export PG_CONFIG DESTDIR QUICK

.PHONY: help test bench test-examples example-payments example-internal-services example-python install demo demo-stop clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 16
	@echo 'PG=MAJOR or PG_CONFIG=/path/to/pg_config choose the PostgreSQL (default: the one installed).'

test: ## set up what is missing, build, run every test, check format and lints
	@pgrx-config/setup $(PG)
	@pgrx-config/build $(PG)
	@pgrx-config/as-postgres tests/run $(PG)
	@pgrx-config/lint $(PG)

bench: ## measure (15 minutes on a quiet machine; QUICK=1: 2 minutes), write bench/RESULTS.md and its chart
	@pgrx-config/setup $(PG)
	@pgrx-config/build $(PG)
	@pgrx-config/as-postgres bench/run $(PG)

install: ## build, and install into the PostgreSQL of PG_CONFIG (default: pg_config in PATH)
	@pgrx-config/install

test-examples: ## set up and test the examples: real applications, real requests
	@pgrx-config/setup $(PG)
	@examples/setup
	@pgrx-config/build $(PG)
	@pgrx-config/as-postgres examples/test

example-payments example-internal-services example-python: example-%: ## start an example and tell how to try it
	@pgrx-config/setup $(PG)
	@examples/setup
	@pgrx-config/build $(PG)
	@examples/serve $*

demo: ## start a throw-away server with the extension and something to look at
	@pgrx-config/setup $(PG)
	@pgrx-config/build $(PG)
	@pgrx-config/demo start $(PG)

demo-stop: ## end it
	@pgrx-config/demo stop

clean: ## remove what was built here (servers stay in the cache)
	@rm -rf target
