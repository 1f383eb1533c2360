# `make demo` and `make test` are all a new machine needs: Python 3.11, pip and gcc.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
POSTS ?= 512
PIP := $(BIN)/pip --disable-pip-version-check --quiet

DEMO_POSTS := \
  "Thank you all for a wonderful evening at the stadium!" \
  "Your football club is a bunch of clueless donkeys, and so are its fans." \
  "Our new neighbours come from three continents and bake the best bread in town."

.PHONY: install dev demo test check gate starter starter-report ablation bench bench-7b clean

install: $(VENV)/.installed
dev: $(VENV)/.dev

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install  ## Fetch and quantise the starter base, then explain three posts.
	$(BIN)/hatex prepare starter --only models
	@for post in $(DEMO_POSTS); do $(BIN)/hatex explain "$$post" || exit 1; done

test: dev  ## The whole test suite; tests that need the data sets run where HATEX_DATA names them.
	$(BIN)/pytest

check: dev  ## Lint, types, layers.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy hatex tests/bench
	$(BIN)/lint-imports

gate: install  ## Hold the starter to its bounds (recipes/gate.yaml): `hatex eval gate` leaves with 3 where one falls.
	@test -f build/starter/examples.parquet || $(BIN)/hatex prepare starter --only data
	$(BIN)/hatex eval gate

starter: dev  ## Train what ships in hatex/starter (about 80 minutes on 2 cores with AMX); resumes.
	$(BIN)/hatex prepare starter --only data
	$(BIN)/hatex train starter --resume --registry build/registry
	rm -rf hatex/starter/adapters hatex/starter/routers
	cp -r build/registry/adapters build/registry/routers hatex/starter/

starter-report: install  ## Print the README's tables again; goes on from build/answers.jsonl.
	@test -f build/starter/examples.parquet || $(BIN)/hatex prepare starter --only data
	$(BIN)/hatex eval starter -m macro_f1 -m auroc -m soft_cross_entropy --answers build/answers.jsonl \
	  --markdown build/starter.md --html build/starter.html
	$(BIN)/hatex eval unseen --metric auroc
	$(BIN)/hatex eval targets --markdown build/targets.md || test $$? = 3  # 3: an aim is missed, and the table says which

ablation: dev  ## What each ingredient of training is worth, on a small share of the rows (a good hour and a half with AMX); resumes.
	$(BIN)/hatex prepare starter --only data
	$(BIN)/python tests/bench/ablation.py --markdown build/ablation.md

bench: dev  ## Speed and memory beside everything hatex is compared with; on slow machines `make bench POSTS=64`.
	$(BIN)/python tests/bench/help_time.py
	$(BIN)/python tests/bench/merge_time.py
	$(BIN)/python tests/bench/prepare_rows.py
	$(BIN)/python tests/bench/explain_time.py
	$(BIN)/python tests/bench/wrappers.py --posts $$(( $(POSTS) < 200 ? $(POSTS) : 200 ))
	$(BIN)/python tests/bench/engine.py --posts $(POSTS)
	$(BIN)/python tests/bench/training_steps.py --posts $$(( $(POSTS) < 256 ? $(POSTS) : 256 ))

bench-7b: dev
	$(BIN)/python tests/bench/llama7b.py

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
