# Everything a developer or CI runs. `make demo` shows ptt at work, `make test` proves it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2

.PHONY: demo test check format unit peers e2e bench chaos fuzz lock peers-install clean

demo: $(READY)  ## submit, sign, publish and deliver real mail on this machine
	$(BIN)/ptt demo

test: $(READY) peers-install  ## the whole suite, against real servers
	$(BIN)/python -m pytest -n $(JOBS)

check: $(READY) peers-install  ## format, lint, types, import contracts, size, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry ptt
	$(BIN)/codespell ptt tests bench docs ops compose README.md CHANGELOG.md Makefile
	$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec compose/compose.yaml
	$(BIN)/python tests/check_house.py
	$(BIN)/python -m pytest -q tests/unit

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit peers e2e: $(READY)
	$(BIN)/python -m pytest tests/$@

bench: $(READY) peers-install  ## side by side with Postfix + OpenDKIM; prints figures, asserts none
	$(BIN)/python bench/run.py $(BENCH)

chaos: $(READY) peers-install  ## kill, cut and freeze whole processes under load; FULL=1 for the full figures, SEED=n to repeat
	$(BIN)/python -m tests.chaos.run $(if $(FULL),--full) $(if $(SEED),--seed $(SEED)) $(CHAOS)

fuzz: $(VENV)/.fuzz-ready  ## all targets, or e.g. FUZZ="--target path --executions 1000000 --seed 7"
	$(BIN)/python -m tests.fuzz.run $(FUZZ)

lock:  ## renew requirements/*.txt (needs uv)
	uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	  --extra embedded pyproject.toml -o requirements/run.txt
	uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	  --extra embedded --group test --group lint pyproject.toml requirements/build.in -o requirements/dev.txt
	uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	  --group fuzz -o requirements/fuzz.txt

# The servers that the tests and the bench talk to; none is started as a service.
peers-install:
	sh tests/install_peers.sh

$(READY): pyproject.toml requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ptt needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV) || { sh tests/install_peers.sh venv && $(PYTHON) -m venv --clear $(VENV); }
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The fuzzing engine alone: it has wheels for x86-64 only, so nothing else asks for it.
$(VENV)/.fuzz-ready: $(READY) requirements/fuzz.txt
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
