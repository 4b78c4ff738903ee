# The commands of the README. `make demo` and `make test` need nothing but Python 3.11, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= 2
HER2ST ?= ../shared/data/her2st
DATA ?= ../shared/data/tcga_hif
COHORTS ?=
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# A stray PYTHONPATH or user site must not reach into the environment.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH

.PHONY: setup demo demo-full demo-seeds quick test lint bench real real-tcga law law2 soak clean
setup: .venv/.ready

# uv installs the hash-pinned packages in seconds; pip does the same, slower, where uv can't.
# torch and torchvision come last and together: pip honours a local CPU wheel (find-links).
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

# Every network with a search of three configurations, the nulls, the ablations and the leak audit.
demo-full: setup
	snakemake --cores $(CORES) --configfile tests/config/demo-full.yaml -- demo
	@echo "report: results/demo/report/index.html"

# The demo under five seeds of its generator, each as long as the demo: a row per seed.
demo-seeds: setup
	python benchmarks/demo_seeds.py --cores $(CORES)

# Unit tests that start no process, train nothing and open no browser.
quick: setup
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" tests/unit

# Two processes; what stays together, tests/conftest.py says.
test: setup
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup
	ruff check . && ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	snakemake --lint

bench: setup
	python benchmarks/run.py

# Region pseudo-bulks of the public her2st data: real slides, real expression, one patient.
real: setup
	snakemake --cores $(CORES) --configfile tests/config/her2st.yaml \
	  --config "cohorts={her2st: {source: her2st, path: $(HER2ST)}}" -- her2st
	python -m pytest -s tests/real

# 1,692 real patients of three cancers, as a vector per slide: by patient, with sites held out, each lung
# cancer on the other, and immune signatures. DATA is any folder of the same layout; COHORTS=luad,lusc takes some of it.
real-tcga: setup
	python benchmarks/real_tcga.py $(DATA) --cohorts "$(COHORTS)" --cores $(CORES)

# 400 simulated patients under a known law: where statistical claims are tested.
law: setup
	snakemake --cores $(CORES) --configfile tests/config/law.yaml -- law
	python -m pytest -s tests/law

# 480 simulated patients under a second law, whose modules ask more of a model than the mean of a
# slide's tiles: benchmarks/law2.py prints each module beside what is attainable.
law2: setup
	snakemake --cores $(CORES) --configfile tests/config/law2.yaml -- law2
	python benchmarks/law2.py results/law2

# The real engines: kills at any moment, full disks, environments of conda, Slurm (as root, where its
# packages are or can be installed), every key of the configuration, ten slides more. Two processes, as
# Slurm mostly waits; what the tests print comes at the end.
soak: setup
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -v -rP --durations=15 tests/soak

clean:
	rm -rf results .snakemake
