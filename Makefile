# The two commands of the README, and what development needs. Everything is installed into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
CORES ?= 2
VENV := .venv/bin
# Bytecode is compiled once at installation: without it every start of Snakemake costs three times as much.
INSTALL := $(VENV)/uv pip

.PHONY: demo demo-all test test-fast test-slurm install check format lock clean
.DELETE_ON_ERROR:

demo: install ## the whole chain on a small embedded dataset, ending in a result table; two to three minutes on two cores
	$(VENV)/python -m avpipe demo --cores $(CORES)

demo-all: install ## all methods and models on both full embedded datasets, and the README's figure of their results
	$(VENV)/python -m avpipe demo --all --cores $(CORES)
	cp results/demo_gzsl/eval.svg docs/demo_gzsl.svg

test: install ## every test
	$(VENV)/python -m pytest -n $(CORES) -m "not slurm"

test-fast: install ## what takes a second or two: no Snakemake, no big networks, no long media
	$(VENV)/python -m pytest -n $(CORES) -m "not workflow and not slow and not slurm"

test-slurm: install ## whole runs through a Slurm of one node; needs root and Debian's packages slurm-wlm and munge
	$(VENV)/python -m pytest -m slurm -rs tests/workflow/test_slurm.py

install: .venv/installed

.venv/installed: requirements.lock envs/bootstrap.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, found '$(PYTHON)': make PYTHON=/path/to/python3.11 ..."; exit 1; }
	test -x $(VENV)/python || $(PYTHON) -m venv .venv
	$(VENV)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/bootstrap.lock
	$(INSTALL) sync --python $(VENV)/python --require-hashes --compile-bytecode requirements.lock
	$(INSTALL) install --quiet --python $(VENV)/python --no-deps --no-build-isolation -e .
	touch $@

check: install ## format, lint, types and the direction of imports
	$(VENV)/ruff format --check src tests workflow benchmarks
	$(VENV)/ruff check src tests workflow benchmarks
	$(VENV)/snakefmt --check Snakefile rules
	$(VENV)/mypy
	$(VENV)/lint-imports --no-logo

format: install
	$(VENV)/ruff check --fix src tests workflow benchmarks
	$(VENV)/ruff format src tests workflow benchmarks
	$(VENV)/snakefmt Snakefile rules

lock: install ## renew requirements.lock (hashes, no host)
	$(INSTALL) compile pyproject.toml --group dev --generate-hashes --universal --python-version 3.11 \
		--no-header --no-annotate -o requirements.lock

clean: ## remove what the pipeline made; keeps .venv
	rm -rf results .snakemake
