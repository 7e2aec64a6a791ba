# Everything runs in .venv/, which is made on first use and made again only when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: help demo test test-all faults check audit format docs bench graphs costs audit-simulation experiments proof wheel clean

help:                ## List what can be made
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "boxmine needs Python 3.11 or newer")'
	$(BIN)/python -m pip install --quiet uv
	# compiled at once: without, where the environment forbids Python to write bytecode, each start takes 10 s more
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]'
	# ultralytics reads exported YOLO sets in a test, label-studio-sdk and datumaro (with what they import, from appdirs
	# on) exported reviews; grad-cam and torchcam (with what they import, from ttach on) are measured against. Without
	# their dependencies, which would bring a second OpenCV, or older versions of OpenCV, pandas and pyarrow
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps ultralytics ultralytics-thop \
		label-studio-sdk datumaro appdirs faker imagesize jsf json-stream json-stream-rs-tokenizer lxml pyjwt rstr \
		shapely xmljson grad-cam torchcam ttach
	touch $@

demo: $(READY)       ## Generate a corpus, train, mine, score, and write a report to look at
	$(BIN)/boxmine demo --out runs/demo

# the tests' tensors are small: splitting them among threads takes longer than the work itself
test test-all: export OMP_NUM_THREADS := 1
# compiled tests are kept, also where the environment forbids it: to compile them takes longer than to collect them
test test-all: export PYTHONDONTWRITEBYTECODE :=

# a file's tests run in one process, one after the other, so that they share fixtures; files run in parallel
PARALLEL := -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: $(READY)       ## Run the fast tests, in parallel
	$(BIN)/pytest -m 'not slow' $(PARALLEL)

test-all: test       ## Run the fast tests, then the slow ones: training on real images, many kills, servers
	$(BIN)/pytest -m slow

faults: $(READY)     ## Run all fault injection tests; ends with a table of what was injected how often
	OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/faults

check: $(READY) audit ## Format, lint, types, import contract, vulnerable dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(READY)      ## Known vulnerabilities of what is installed, where the index can be asked
	@mkdir -p build && rm -f build/vulnerabilities.json
	@$(BIN)/pip-audit --skip-editable --progress-spinner off --timeout 10 --format json --output build/vulnerabilities.json \
		|| { test ! -s build/vulnerabilities.json && echo "The index could not be asked; vulnerabilities are not checked."; }

format: $(READY)     ## Put the code into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)       ## Build the documentation into site/, with every warning an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(READY)      ## Measure; a table on the terminal and build/bench.json
	$(BIN)/python tests/benchmarks/bench.py

graphs: $(READY)     ## Measure what corpora and batches cost; pictures in tests/benchmarks/
	$(BIN)/python tests/benchmarks/graphs.py

costs: $(READY)      ## Count what every localizer costs; tables on the terminal and in mining/localizers/README.md
	$(BIN)/python tests/benchmarks/costs.py --write

audit-simulation: $(READY) ## Draws, verdicts and estimates, many times, on mined runs; figures in build/
	$(BIN)/python tests/benchmarks/audit_simulation.py
	$(BIN)/python tests/benchmarks/object_simulation.py

experiments: $(READY) ## Every localizer on real photos (hours); tables in build/experiments/
	$(BIN)/python tests/benchmarks/experiments.py

proof: $(READY)      ## What mined boxes are worth to a detector, on real photos (hours); build/proof.json
	$(BIN)/python tests/benchmarks/proof.py

wheel: $(READY)      ## Build the wheel into dist/
	$(BIN)/uv build --quiet --wheel --out-dir dist

clean:               ## Remove what was built, but not the environment
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
