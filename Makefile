# Two commands: `make run` turns the loop once on shipped data, `make test` passes every check.
# Tests run in two processes of one thread each: two cores are what a small machine has.
# TORCH_INDEX: a package index with CPU-only builds of torch, for machines where the default would pull CUDA.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: run test prove lint clean

run: $(VENV)/.ready
	$(BIN)/llmops run configs/support.yaml

test: $(VENV)/.ready lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope

prove: $(VENV)/.ready
	$(BIN)/python -m pytest -m prove --durations=15

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "llmops needs Python 3.11 or newer"; exit 5; }
	$(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once; some minutes) ..."
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0 --index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[train,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
