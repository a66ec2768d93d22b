# `make demo` and `make test` need a Python from 3.11 to 3.14, and nothing else.

PYTHON ?= $(shell for one in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$one -c '' 2>/dev/null && echo $$one && break; done)
# Tests run in so many processes at once, of up to 2 GB each.
JOBS ?= 2
BIN := .venv/bin
READY := .venv/.installed
BOOK := .venv/.book

.PHONY: demo quick test lint book book-serve bench lab notebooks ablations mini voc coco clean

# The small models are no faster on two threads, and far slower where other work has a core.
demo quick test notebooks ablations: export OMP_NUM_THREADS ?= 1

demo: $(READY)
	$(BIN)/python notebooks/execute.py notebooks/00_quickstart.ipynb --out out
	$(BIN)/fslab demo data/minivoc --out out

quick: $(READY)
	$(BIN)/python -m pytest $$(cat tests/quick.txt) -n $(JOBS) --dist worksteal --durations 5

test: $(READY)
	$(BIN)/python -m pytest tests -n $(JOBS) --dist worksteal
	$(BIN)/python -m pytest --nbval-lax notebooks -n $(JOBS) --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

book: $(BOOK)
	$(BIN)/python book/pages.py
	$(BIN)/zensical build --clean --strict
	$(BIN)/python book/check.py out/book

book-serve: book
	@echo "http://127.0.0.1:8000"
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory out/book

bench: $(READY)
	$(BIN)/python tests/bench/run.py --large --out out/bench.json
	$(BIN)/python tests/bench/run.py --tables out/bench.json

lab: $(READY)
	$(BIN)/jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

notebooks: $(READY)
	$(BIN)/python notebooks/execute.py

ablations: $(READY)
	@mkdir -p notebooks/experiments/results
	@for file in notebooks/experiments/*.toml; do \
		name=$$(basename $$file .toml); \
		$(BIN)/fslab ablate $$file --dataset data/minivoc --out out/ablations/$$name || exit 1; \
		cp out/ablations/$$name/table.csv notebooks/experiments/results/$$name.csv; \
	done
	@for name in methods backbones attentive; do \
		$(BIN)/fslab ablate notebooks/experiments/$$name.toml --dataset data/minivoc \
			--split val-hard --out out/ablations/$$name-hard || exit 1; \
		cp out/ablations/$$name-hard/table.csv notebooks/experiments/results/$$name-hard.csv; \
	done
	$(BIN)/python notebooks/experiments/ceilings.py data/minivoc --split val \
		--out notebooks/experiments/results/ceilings.csv
	$(BIN)/python notebooks/experiments/ceilings.py data/minivoc --split val-hard \
		--out notebooks/experiments/results/ceilings-hard.csv
	$(BIN)/python notebooks/experiments/pictures.py data/minivoc --split val \
		--out notebooks/experiments/results/pictures.csv
	$(BIN)/fslab keypoints --pairs 40 --timestep 0 --timestep 50 --timestep 100 \
		--timestep 200 --timestep 400 \
		--out notebooks/experiments/results/correspondence.csv
	$(BIN)/python notebooks/experiments/tuning.py data/minivoc --split search --limit 24 \
		--out notebooks/experiments/results/tuning-search.csv
	$(BIN)/python notebooks/experiments/tuning.py data/minivoc --split val --limit 30 \
		--out notebooks/experiments/results/tuning.csv
	$(BIN)/python notebooks/experiments/tables.py README.md docs/results.md docs/method.md docs/results.md

mini: $(READY)
	$(BIN)/python -m fslab.mini.train --out out/mini

voc: $(READY)
	$(BIN)/fslab fetch voc data

coco: $(READY)
	$(BIN)/fslab fetch coco data/coco

clean:
	rm -rf .venv out .cache

$(READY): pyproject.toml constraints.txt requirements.txt requirements-build.txt requirements-reference.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || \
		{ echo "fslab needs Python 3.11 to 3.14; this is $$($(PYTHON) --version). Give one: make PYTHON=python3.13"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python .ci/torch.py $(TORCH)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-build.txt
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation -r requirements.txt
	$(BIN)/python .ci/reference.py
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[dev,lab]'
	@touch $@

$(BOOK): $(READY) requirements-book.txt
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-book.txt
	@touch $@
