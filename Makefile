# `make demo` and `make test` need Python 3.11 or 3.12 and a C++ compiler, and nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
READY := .venv/.installed

.PHONY: demo test lint lab notebooks mini clean

demo: $(READY)
	$(BIN)/python notebooks/execute.py notebooks/00_quickstart.ipynb --out out
	$(BIN)/fslab demo data/minivoc --out out

test: $(READY)
	$(BIN)/python -m pytest tests
	$(BIN)/python -m pytest --nbval-lax notebooks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: $(READY)
	$(BIN)/jupyter lab --notebook-dir=notebooks

notebooks: $(READY)
	$(BIN)/python notebooks/execute.py

mini: $(READY)
	$(BIN)/python -m fslab.mini.train --out out/mini

clean:
	rm -rf .venv out

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "fslab needs Python 3.11 or 3.12; this is $$($(PYTHON) --version). Give one: make PYTHON=python3.11"; exit 1; }
	@{ command -v c++ || command -v g++ || command -v clang++; } >/dev/null || \
		{ echo "fslab needs a C++ compiler to build pydensecrf2: apt-get install g++ (macOS: xcode-select --install)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
