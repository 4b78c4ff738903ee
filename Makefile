# Commands of the README and of CONTRIBUTING. They need only Python 3.11, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= 2
HER2ST ?= ../shared/data/her2st
DATA ?= ../shared/data/tcga_hif
COHORTS ?=
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# Keep a stray PYTHONPATH or user site out of the environment.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH

.PHONY: setup demo demo-full demo-seeds quick unpinned test lint bench real real-tcga law law2 soak clean
setup: .venv/.ready

# uv installs the hash-pinned packages in seconds; pip is the slower fallback if uv fails.
# torch and torchvision are installed last and together, by pip, which finds a local CPU wheel (find-links).
.venv/.ready: requirements.lock requirements-uv.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else \
	  f"error: Python {v[0]}.{v[1]}: the pinned environment is for Python 3.11; install it and run make PYTHON=python3.11")'
	rm -rf .venv && $(PYTHON) -m venv .venv
	pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.lock
	uv pip install -q --no-cache --system-certs --python .venv/bin/python --no-deps --require-hashes -r requirements.lock \
	  || pip install -q --no-deps --require-hashes -r requirements.lock
	pip install -q --disable-pip-version-check torch==2.13.0 torchvision==0.28.0
	pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: setup
	snakemake --cores $(CORES) demo
	@echo "report: results/demo/report/index.html"

# The demo with all networks, a search of three configurations each, null models, ablations and leak audit.
demo-full: setup
	snakemake --cores $(CORES) --configfile tests/config/demo-full.yaml -- demo
	@echo "report: results/demo/report/index.html"

# The demo under five seeds of its generator, one row per seed. Each seed takes as long as the demo.
demo-seeds: setup
	python benchmarks/demo_seeds.py --cores $(CORES)

# Unit tests that start no process, train nothing and open no browser.
quick: setup
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" tests/unit

# The newest packages that pyproject.toml allows, under another Python: make unpinned PYTHON=python3.13.
unpinned:
	$(PYTHON) -m venv .venv-unpinned
	.venv-unpinned/bin/pip install -q --disable-pip-version-check -e ".[dev]"
	.venv-unpinned/bin/ruff check .
	.venv-unpinned/bin/mypy
	.venv-unpinned/bin/python -m pytest -n 2 --dist loadfile -m "not slow" tests/unit

# Two processes; tests/conftest.py decides which tests share one.
test: setup
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup
	ruff check . && ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	snakemake --lint

bench: setup
	python benchmarks/run.py

# Pseudo-bulks of regions of the public her2st data: real slides, real expression, one patient.
real: setup
	snakemake --cores $(CORES) --configfile tests/config/her2st.yaml \
	  --config "cohorts={her2st: {source: her2st, path: $(HER2ST)}}" -- her2st
	python -m pytest -s tests/real

# 1,692 real patients of three cancers, one feature vector per slide: folds by patient, folds with held-out sites,
# models of each lung cancer scored on the other, and immune signatures. DATA is any folder with the same layout;
# COHORTS=luad,lusc selects cohorts.
real-tcga: setup
	python benchmarks/real_tcga.py $(DATA) --cohorts "$(COHORTS)" --cores $(CORES)

# 400 simulated patients under a known law, on which statistical claims are tested.
law: setup
	snakemake --cores $(CORES) --configfile tests/config/law.yaml -- law
	python -m pytest -s tests/law

# 480 simulated patients under a second law, whose modules need more than the mean of a slide's tiles.
# benchmarks/law2.py prints each module's score and the attainable score.
law2: setup
	snakemake --cores $(CORES) --configfile tests/config/law2.yaml -- law2
	python benchmarks/law2.py results/law2

# Long robustness tests: kills at random moments, full disks, conda environments, Slurm (as root, if its packages
# are installed or can be), a change of every configuration key, ten added slides, random inputs by the thousand,
# and the reports from the field in tests/cases. Two processes, since Slurm
# mostly waits; the output of the tests is printed at the end.
soak: setup
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -v -rP --durations=15 tests/soak tests/cases

clean:
	rm -rf results .snakemake
