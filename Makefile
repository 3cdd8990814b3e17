# Everything a person does with this repository. Needs git, make and Python 3.11 or newer with venv; nothing else.
# uv is used if it is installed, else it is fetched into .tools; packages come as uv.lock names them, into .venv.

# The first Python that is new enough; name another with `make serve PYTHON=/opt/python3.13/bin/python3`.
CANDIDATES := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
ASK_PYTHON := import sys; sys.version_info < (3, 11) and sys.exit(1); print(getattr(sys, "_base_executable", sys.executable))
override PYTHON := $(shell for name in $(CANDIDATES); do "$$name" -c '$(ASK_PYTHON)' 2>/dev/null && break; done)

# uv, if it is new enough to read the lock file.
UV := $(shell uv --version 2>/dev/null | awk '{ split($$2, v, "."); if (v[1] > 0 || v[2] >= 9) print "uv" }')
ifeq ($(UV),)
UV := .tools/bin/uv
endif

export UV_PYTHON := $(PYTHON)
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
# The tests start hundreds of processes, each of which would compile the whole source anew.
unexport PYTHONDONTWRITEBYTECODE

# What is run a second time against the built wheel: the public names, the vocabulary, the whole line.
# Races of the line are not: they prove nothing of the wheel, and take long.
NOT_OF_WHEEL = %/test_architecture.py %/test_docs.py %/test_conftest.py %/test_gateway_races.py
WHEEL_TESTS = $(filter-out $(NOT_OF_WHEEL),$(wildcard tests/test_*.py))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve test check format bench torch soak clean lint unit wheel python uv runtime develop

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

serve: runtime ## set up on first use, then serve on http://127.0.0.1:8420; ARGS="--port 9000" goes to `penstock serve`
	@exec $(UV) run --quiet --frozen --no-dev penstock serve $(ARGS)

test: lint unit wheel ## all that CI runs: lint, format, types, tests, and the quick tests again on the built wheel

check: lint ## lint, format and types only (seconds)

format: develop ## put the code into its format and fix what can be fixed by itself
	.venv/bin/ruff check --fix-only --quiet .
	.venv/bin/ruff format .

bench: develop ## measure the overhead of the gateway on this machine; ARGS go to bench/overhead.py
	.venv/bin/python bench/overhead.py $(ARGS)

torch: develop ## add the CPU build of PyTorch, for the tests and the training that need it (exactness of the engine)
	@test -x .tools/bin/python || $(PYTHON) -m venv .tools
	@.tools/bin/python -m pip --python .venv/bin/python install --quiet torch==2.13.0

soak: develop ## the long runs: load, faults and leaks for minutes; ARGS go to pytest
	.venv/bin/pytest -m soak --timeout=0 $(ARGS)

clean: ## remove everything that make made; state in .penstock stays
	rm -rf .venv .tools dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find src tests bench -name __pycache__ -type d -exec rm -rf {} +

lint: develop
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

unit: develop
	.venv/bin/pytest -n 2 --dist worksteal $(ARGS)

# The wheel first meets nothing but what it says it needs, then the test tools join it. No source folder is on the path.
wheel: develop
	@rm -rf dist
	@$(UV) build --quiet --wheel
	@set -e; room=$$(mktemp -d); trap 'rm -rf "$$room"' EXIT; trap 'exit 1' INT TERM; \
	export UV_PROJECT_ENVIRONMENT="$$room/venv"; bin="$$room/venv/bin"; \
	echo "penstock: testing $$(echo dist/*.whl) in an environment of its own"; \
	$(UV) sync --quiet --frozen --no-dev --no-install-project; \
	$(UV) pip install --quiet --python "$$bin/python" --no-deps dist/*.whl; \
	$(UV) pip check --quiet --python "$$bin/python"; \
	"$$bin/python" -I tests/import_everything.py; \
	(cd "$$room" && "$$bin/penstock" --help >/dev/null); \
	$(UV) sync --quiet --frozen --inexact --no-install-project; \
	PENSTOCK_TEST_WHEEL=1 "$$bin/pytest" -q -n 2 --dist worksteal -p no:cacheprovider $(WHEEL_TESTS)

python:
	@test -n "$(PYTHON)" || { \
		echo "penstock needs Python 3.11 or newer and found none among: $(CANDIDATES)."; \
		echo "Install one, or name it: make serve PYTHON=/path/to/python3"; exit 1; } >&2

uv: python $(filter .tools/%,$(UV))

.tools/bin/uv: | python
	@echo "penstock: fetching uv, the package installer, into .tools (once)"
	@$(PYTHON) -m venv .tools || { \
		echo "penstock needs Python's venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<0.14'

runtime: uv
	@test -x .venv/bin/penstock || echo "penstock: installing what it needs into .venv (once, under a minute)"
	@$(UV) sync --quiet --frozen --no-dev --inexact

develop: uv
	@test -x .venv/bin/pytest || echo "penstock: installing the tools for development into .venv (once, a minute or two)"
	@$(UV) sync --quiet --frozen --inexact
