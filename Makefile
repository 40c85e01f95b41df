# lipwright: `make demo` and `make test` each set up everything that they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
# Files of tests go to workers as they come, so that what a file shares is made once.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo docs test check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt scripts/set_up.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[base,demo,voice,cluster,parquet,provenance,onnx,stream,studio,docs,dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps syncnet-python python_speech_features  # see docs/metrics.md
	$(BIN)/python scripts/set_up.py
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/lipwright demo --out demo-out --force

docs: $(STAMP)
	$(BIN)/python -m sphinx -q -b html -W --keep-going -n -c docs -d docs-out/.doctrees . docs-out
	@echo docs-out/index.html

test: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

bench: $(STAMP)
	$(BIN)/python scripts/bench.py --out bench-out

clean:
	rm -rf $(VENV) demo-out bench-out docs-out build *.egg-info
