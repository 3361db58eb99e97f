# The two commands of the README. Everything they need is installed into $(VENV).

VENV ?= .venv
PYTHON ?= python3
PRESET ?= fine
DATA ?=

NATIVE := setup.py pyproject.toml CMakeLists.txt $(wildcard csrc/*)

.PHONY: demo test lint clean

demo: $(VENV)/train.stamp
	$(VENV)/bin/edgead demo --output out/demo --preset $(PRESET) $(if $(DATA),--data "$(DATA)")

test: $(VENV)/dev.stamp
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(VENV)/dev.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/%.stamp: $(NATIVE)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build out *.egg-info edgead/_*.so
