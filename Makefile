# Everything a fresh checkout needs is Python 3.11+ and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SOURCES := fedbus server clients simulations tests

OUT    ?= runs/bench

.PHONY: setup compare bench bench-peers soak test test-all check format lock clean

setup: $(READY)

# Bytecode is compiled once here: importing PyTorch, Flower and Ray from source takes a quarter of a minute each time.
# uv comes from its own hash-pinned file, everything else from the lock through uv.
$(READY): requirements/uv.lock requirements/fedbus.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("FedBUS needs Python 3.11 or newer; name one with: make setup PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/fedbus.lock
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(READY)

compare: setup
	$(BIN)/fedbus compare

# OUT: folder of the results; QUICK=1: under five minutes on two cores; ONLY="startup deployment": only these parts, the
# others in OUT/bench.json are kept.
bench: setup
	$(BIN)/python -m simulations.benchmarks $(OUT) $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)")

# The same federation on FedBUS, pfl-research, fluke, NVIDIA FLARE and Flower's quickstart; downloads the peers once.
bench-peers: setup
	$(BIN)/python -m simulations.benchmarks.peers $(OUT)/peers

# Kills every kind of process at random moments, fills disks and so on; takes half an hour at most. The table in
# OUT/soak.md belongs in docs/security.md.
soak: setup
	$(BIN)/python -m tests.soak $(OUT)

# Two processes with one thread each: many tests wait for other processes, and threads of two would wait for each other.
# One file stays in one process, since its tests share fixtures; a process takes the next file when it is free, and
# tests/conftest.py puts the long files first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Everything that changes often: in-process tests, one comparison, one study, one deployment.
test: setup
	$(PYTEST) -m "not extended"

# All tests, with faults of real processes, a Ray cluster, `flwr run`, the wheel and the peers; coverage is measured.
test-all: setup
	$(PYTEST) --cov --cov-report=term:skip-covered

check: setup
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy fedbus server clients simulations

format: setup
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# The bootstrap's uv is the one that Flower's own requirement of uv led to.
lock:
	uv pip compile pyproject.toml --quiet --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command "make lock" -o requirements/fedbus.lock
	grep -o '^uv==[^ ]*' requirements/fedbus.lock | uv pip compile - --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements/uv.lock

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
