# Works with GNU make and BSD make. All targets set up .venv by themselves.
PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin

.PHONY: test lint clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

test: $(VENV)/.installed
	$(BIN)/pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check protocol client engine/jocker_engine/db engine/jocker_engine/containers engine/jocker_engine/platform engine/jocker_engine/shim
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
