# Works with GNU make and BSD make. Every target sets up .venv by itself.
PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin

.PHONY: demo test lint bench faults clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	sh etc/host-packages.sh
	PATH="$$PWD/$(BIN):$$PATH" sh examples/demo.sh

test: $(VENV)/.installed
	sh etc/host-packages.sh
	$(BIN)/pytest -n 3

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	sh etc/host-packages.sh
	$(BIN)/python tests/bench/run.py

faults: $(VENV)/.installed
	sh etc/host-packages.sh
	$(BIN)/python tests/faults/run.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
