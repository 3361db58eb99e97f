# The two commands of the README. Everything they need is installed into $(VENV).

VENV ?= .venv
PYTHON ?= python3
PRESET ?= default
DATA ?=

CPP = $(shell find csrc tests plugins -name build -prune -o -name '*.cpp' -print -o -name '*.h' -print -o -name '*.c' -print -o -name '*.cu' -print -o -name '*.cuh' -print)
NATIVE := setup.py pyproject.toml CMakeLists.txt $(shell find csrc -type f -not -path 'csrc/wheel/*')

# Tests start hundreds of Pythons: without kept bytecode each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-plugins test-all gpu-first-hour coverage mutants lint docs locks clean

# With the daemon, which is the next command of the README.
demo: $(VENV)/daemon.stamp
	$(VENV)/bin/edgead demo --output out/demo --preset $(PRESET) $(if $(DATA),--data "$(DATA)")

test: $(VENV)/dev.stamp
	@$(VENV)/bin/python tests/system_packages.py
	$(VENV)/bin/python -m pytest --numprocesses 3 --dist worksteal $(ARGS)

# The packages of plugins/, each with tests of its own.
test-plugins: $(VENV)/plugins.stamp
	@$(VENV)/bin/python tests/system_packages.py
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal $(wildcard plugins/*/tests) $(ARGS)

# Everything, also what takes long: half an hour and more.
test-all: $(VENV)/dev.stamp
	@$(VENV)/bin/python tests/system_packages.py
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal -m '' $(ARGS)
	$(MAKE) test-plugins ARGS="-m '' $(ARGS)"
	.ci/sanitize
	.ci/versions

# On a machine with an NVIDIA card: builds, tests and measures within an hour, and writes out/gpu-first-hour.zip to send back.
gpu-first-hour:
	@$(PYTHON) -m benchmarks gpu_first_hour --venv $(VENV) $(ARGS)

# Whether tests notice small changes of the code: other ones each week.
mutants: $(VENV)/dev.stamp
	$(VENV)/bin/python -m benchmarks mutate --sample 60 --seed $$(date -u +%G%V) $(ARGS)

# Lines that no quick test and none of faults runs, processes that tests start left out: a page in build/coverage.
coverage: $(VENV)/dev.stamp
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check 'pytest-cov>=5'
	$(MAKE) test ARGS="--cov=edgead --cov=export --cov-report=term --cov-report=html:build/coverage -m 'not slow or faults' $(ARGS)"

lint: $(VENV)/dev.stamp build/stubs/stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror $(CPP)
	.ci/page-types || [ $$? = 77 ]

# The site of the documentation, in build/site. It needs no network once its packages are here.
docs: $(VENV)/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --quiet --strict

# What mypy does not find: types of TensorRT. Their package requires TensorRT itself, hence --no-deps and a folder of their
# own, where nobody takes them for it; and it has parameters that no Python function can have.
build/stubs/stamp: Makefile | $(VENV)/dev.stamp
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target build/stubs 'tensorrt-stubs>=10.13'
	sed -i -e 's/ in: list/ in_: list/' -e 's/channel_axis: int)/channel_axis: int = 0)/' build/stubs/tensorrt_bindings/tensorrt.pyi
	rm -rf build/stubs/edgead
	touch $@

PLUGINS := $(wildcard plugins/*/pyproject.toml)

$(VENV)/plugins.stamp: $(VENV)/dev.stamp $(PLUGINS)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --no-compile $(PLUGINS:%/pyproject.toml=--editable './%[test]')
	touch $@

$(VENV)/%.stamp: $(NATIVE)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing edgead and its packages ($*) into $(VENV): some minutes'
	$(VENV)/bin/python -m pip install --disable-pip-version-check --no-compile --editable '.[$*]'
	touch $@

# The packages of the container with their hashes, those of both architectures, in the versions of the day.
LOCK = --quiet --upgrade --generate-hashes --python-version 3.13 --python-platform x86_64-manylinux_2_28 --no-header --no-annotate
locks:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv
	build/uv/bin/uv pip compile pyproject.toml --extra daemon --extra people $(LOCK) --output-file deploy/requirements.txt
	sed -n 's/^requires = \[\(.*\)\]/\1/p' pyproject.toml | tr -d '" ' | tr , '\n' > build/requirements.in
	build/uv/bin/uv pip compile build/requirements.in $(LOCK) --output-file deploy/build-requirements.txt

clean:
	rm -rf $(VENV) build out *.egg-info edgead/_*.so
