# Works with GNU make and BSD make. Every target sets up .venv by itself.
# FreeBSD's packages of Python have no python3 of their own.
PYTHON = $$(command -v python3 || command -v python3.13 || command -v python3.12 || command -v python3.11)
VENV = .venv
BIN = $(VENV)/bin

# Where the environment forbids writing byte code, every command would compile its modules anew.
COMPILED = $(BIN)/python -m compileall -q protocol engine client

.PHONY: demo test lint bench faults clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	sh etc/host-packages.sh
	$(COMPILED)
	PATH="$$PWD/$(BIN):$$PATH" sh examples/demo.sh

test: $(VENV)/.installed
	sh etc/host-packages.sh
	$(COMPILED)
	$(BIN)/pytest -n 3

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	sh etc/host-packages.sh
	$(COMPILED)
	$(BIN)/python tests/bench/run.py

faults: $(VENV)/.installed
	sh etc/host-packages.sh
	$(COMPILED)
	$(BIN)/python tests/faults/run.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
