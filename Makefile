# One command for everything that is done with this repository: `make help` lists it.
# Each target does its own set-up; what it needs from the machine is checked by scripts/doctor.sh.

# The interpreter that .venv is made from: `make test PYTHON=python3.12`. Default: the first good one found.
PYTHON ?=
# More arguments: `make test PYTEST_ARGS='-k channel -x'`, `make test CARGO_TEST_ARGS=timers`,
# `make bench BENCH_ARGS=--help`, `make demo DEMO_ARGS=--help`, `make wheels WHEELS_ARGS='--python python3.12'`.
PYTEST_ARGS ?=
# How many processes share the Python tests; 0 runs them in one, as a debugger needs it.
PYTEST_JOBS ?= logical
CARGO_TEST_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=
WHEELS_ARGS ?=
# How long each target of `make fuzz` runs, and `make soak`.
FUZZ_SECONDS ?= 600
SOAK_SECONDS ?= 1200

VENV       := .venv
VENV_BENCH := .venv-bench
BIN        := $(VENV)/bin
STAMPS     := $(VENV)/stamps

RUST_SOURCES   := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
PYTHON_SOURCES := $(wildcard python tests benches examples scripts fuzz)
# The extension crate is a library for Python to load: it has no Rust tests, and no test binary of it would link.
RUST_TESTED    := --workspace --exclude thistledown-python
MODELLED       := $(patsubst crates/%/tests/model.rs,-p thistledown-%,$(wildcard crates/*/tests/model.rs))
LOOM           := RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom

# In continuous integration the lock file is law; at a desk it follows Cargo.toml.
ifdef CI
LOCKED := --locked
endif

# So that every build, by maturin or by cargo, is for the same interpreter.
export PYO3_PYTHON := $(abspath $(BIN)/python)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# maturin refuses to choose between two active environments.
unexport CONDA_PREFIX

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-rust test-python check format rust-lint python-lint types layers bench plot docs model fuzz \
        sanitize soak wheels clean doctor browser build force

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: build ## A server that one heavy request does not stop, and a job that one bad file does not stop
	$(BIN)/python examples/demo.py $(DEMO_ARGS)

test: test-rust test-python ## Every test, Rust and Python

test-rust: | doctor
	@if cargo nextest --version >/dev/null 2>&1; then \
		set -ex; \
		cargo nextest run $(LOCKED) $(RUST_TESTED) $(CARGO_TEST_ARGS); \
		cargo test $(LOCKED) $(RUST_TESTED) --doc; \
	else \
		set -ex; \
		cargo test $(LOCKED) $(RUST_TESTED) $(CARGO_TEST_ARGS); \
	fi

test-python: build browser
	$(BIN)/python -m pytest --numprocesses $(PYTEST_JOBS) --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

check: format rust-lint python-lint types layers docs ## Formatting, lints, types, stubs, layers and documentation

format: $(STAMPS)/tools
	cargo fmt --all --check
	$(BIN)/ruff format --check $(PYTHON_SOURCES)

rust-lint: $(STAMPS)/tools
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	$(LOOM) cargo clippy $(LOCKED) $(MODELLED) --test model -- -D warnings

python-lint: $(STAMPS)/tools
	$(BIN)/ruff check $(PYTHON_SOURCES)

types: build
	$(BIN)/mypy --strict python/thistledown
	$(BIN)/python -m mypy.stubtest thistledown._core

layers: $(STAMPS)/tools
	$(BIN)/python scripts/check_layers.py

bench: build $(VENV_BENCH)/stamp ## The benchmarks, side by side with the peers (two hours; to try it: BENCH_ARGS=--quick)
	cargo build $(LOCKED) --release --manifest-path benches/load/Cargo.toml
	PYTHONPATH=$(abspath python) $(VENV_BENCH)/bin/python benches/run.py --write $(BENCH_ARGS)
	$(BIN)/python scripts/plot.py

plot: $(STAMPS)/tools ## The picture of the benchmarks anew, from their results
	$(BIN)/python scripts/plot.py

docs: build $(STAMPS)/docs ## The documentation as a web site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

model: | doctor ## The models of what threads share, checked by loom (seconds)
	$(LOOM) cargo test $(LOCKED) --release $(MODELLED) --test model

# SQLite is compiled for the sanitizer too, by the C compiler, whose private globals two units may share.
fuzz: export ASAN_OPTIONS := detect_odr_violation=0
fuzz: build $(STAMPS)/fuzz ## Every fuzz target, ten minutes each (needs a nightly Rust and cargo-fuzz)
	@set -e; for target in $$(cargo +nightly fuzz list); do \
		echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
		cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=2200 \
			-len_control=0 -timeout=20 -print_final_stats=1; \
	done
	@echo "fuzzing the window for $(FUZZ_SECONDS) s"
	@$(BIN)/python fuzz/window.py -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=fuzz/artifacts/ -print_final_stats=1

sanitize: | doctor ## The Rust tests under the address and thread sanitizers (needs a nightly Rust with rust-src)
	scripts/sanitize.sh address
	scripts/sanitize.sh thread

soak: build ## Everything at once for twenty minutes, with faults: nothing may grow
	$(BIN)/python benches/soak.py --seconds $(SOAK_SECONDS)

wheels: $(STAMPS)/wheels ## Wheels for every version of Python and an sdist, in dist/, each tried out in a clean environment
	$(BIN)/python scripts/wheels.py $(WHEELS_ARGS)

clean: ## Remove everything that was built or installed here
	rm -rf $(VENV) $(VENV_BENCH) target benches/load/target fuzz/target fuzz/corpus fuzz/artifacts site build dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find python tests benches examples scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	rm -f python/thistledown/_core*.so

browser:
	@scripts/browser.sh

doctor:
	@PYTHON='$(PYTHON)' scripts/doctor.sh

# --- set-up: a stamp stands for a step, which is done again when what it was made from has changed ------------

build: $(STAMPS)/built

# An environment that works is kept, unless PYTHON asks for another interpreter than the one it was made from.
$(VENV)/interpreter: force | doctor
	@set -e; \
	if [ -z '$(PYTHON)' ] && $(BIN)/python -c '' 2>/dev/null && [ -s $@ ]; then exit 0; fi; \
	wanted=$$(PYTHON='$(PYTHON)' scripts/doctor.sh --python); \
	if [ "$$wanted" != "$$(cat $@ 2>/dev/null)" ] || ! $(BIN)/python -c '' 2>/dev/null; then \
		echo "making $(VENV) from $$wanted"; \
		rm -rf $(VENV); \
		"$$wanted" -m venv $(VENV); \
		mkdir -p $(STAMPS); \
		echo "$$wanted" > $@; \
	fi

$(STAMPS)/tools: $(VENV)/interpreter pyproject.toml scripts/requirements.py
	$(BIN)/python scripts/requirements.py dev > $(STAMPS)/dev.txt
	$(BIN)/python -m pip install --quiet --requirement $(STAMPS)/dev.txt
	@touch $@

$(STAMPS)/docs: $(STAMPS)/tools
	$(BIN)/python scripts/requirements.py docs > $(STAMPS)/docs.txt
	$(BIN)/python -m pip install --quiet --requirement $(STAMPS)/docs.txt
	@touch $@

$(STAMPS)/fuzz: $(STAMPS)/tools
	$(BIN)/python scripts/requirements.py fuzz > $(STAMPS)/fuzz.txt
	$(BIN)/python -m pip install --quiet --requirement $(STAMPS)/fuzz.txt
	mkdir -p fuzz/artifacts
	@touch $@

$(STAMPS)/wheels: $(STAMPS)/tools
	$(BIN)/python scripts/requirements.py wheels > $(STAMPS)/wheels.txt
	$(BIN)/python -m pip install --quiet --requirement $(STAMPS)/wheels.txt
	@touch $@

$(STAMPS)/built: $(STAMPS)/tools $(RUST_SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release $(LOCKED)
	@touch $@

$(VENV_BENCH)/stamp: $(VENV)/interpreter benches/requirements.txt
	rm -rf $(VENV_BENCH)
	$$(cat $(VENV)/interpreter) -m venv $(VENV_BENCH)
	$(VENV_BENCH)/bin/python -m pip install --quiet --requirement benches/requirements.txt
	@touch $@

# A first build writes the lock file.
Cargo.lock:
	cargo generate-lockfile
