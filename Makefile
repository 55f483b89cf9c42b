# Two commands suffice: make demo, make test. Whatever runs, runs in an environment that this file
# sets up when it is missing or older than setup.py: .venv, or .venv-3.9 for PYTHON=python3.9.

# The interpreters that Theano 1.0.5 runs on, most welcome first.
SUPPORTED := python3.11 python3.10 python3.9 python3.8

CAN_RUN_THEANO := import sys; sys.exit(not (3, 8) <= sys.version_info[:2] <= (3, 11))
USABLE := $(shell for p in python3 $(SUPPORTED); do \
	$$p -c "$(CAN_RUN_THEANO)" 2>/dev/null && echo $$p; done; true)

ifdef PYTHON
VERSION := $(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])" 2>/dev/null)
VENV := .venv-$(VERSION)
else
PYTHON := $(firstword $(USABLE) python3)
VERSION := $(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])" 2>/dev/null)
VENV := .venv
endif

RUN := $(VENV)/bin/python
# What to repeat with another interpreter.
GOAL = $(or $(MAKECMDGOALS),demo)
# Written last: an environment without it is not complete.
STAMP := $(VENV)/complete-$(VERSION)
# The other Theanos that the nodes are for, each in an environment of its own.
THEANO_PYMC := 1.0.15 1.1.2
PYMC_TESTS := $(THEANO_PYMC:%=pymc-test-%)
# Tests run in as many processes as there are processors, a file of tests in one of them: most of
# the time goes into compiling, and a file's tests share what is compiled. WORKERS= for one process.
WORKERS = -n auto --maxprocesses=8 --dist=loadfile
C_FILES = $(wildcard c_code/*.[ch] tests/c/*.[ch] tests/c/checks/*.h cuda/*.cu cuda/*.cuh \
	tests/cuda_emulator/*.[ch] tests/cuda_emulator/*.cpp tests/cuda_emulator/*.cu)

.PHONY: help demo test test-cuda mutations-cuda pymc-test $(PYMC_TESTS) clients environments bench \
	lint format c-test c-test-machines clean
.DELETE_ON_ERROR:

help:
	@echo "make demo      the question's layer, five ways, then a network on real data;"
	@echo "               DEMO_ARGS=--quick for a shorter one"
	@echo "make test      all tests; PYTEST_ARGS=\"tests/test_compat.py -x\" for some, WORKERS= in"
	@echo "               one process"
	@echo "make test-cuda the CUDA path alone, in emulation; make mutations-cuda tests its tests"
	@echo "make pymc-test the nodes under Theano-PyMC, which PyMC3 3.10 and 3.11 use"
	@echo "make clients   PyMC3, Keras and Lasagne, unchanged and fused; CLIENT_ARGS=--time for speed-ups"
	@echo "make bench     the benchmarks; BENCH_ARGS=--quick for a shorter look, --help for what there is"
	@echo "make c-test    the C kernels by themselves, under sanitizers; c-test-machines: compiled"
	@echo "               for other processors and by Clang, as far as that can be had here"
	@echo "make lint      check style; make format mends it"
	@echo "make clean     remove what building and testing left (environments stay)"
	@echo "PYTHON=python3.9 before any of them picks the interpreter (3.8 to 3.11)."

demo: $(STAMP)
	@$(VENV)/bin/rbf-op demo $(DEMO_ARGS)

# All tests include those of the CUDA path: in emulation, as far as that can be built here (77: not,
# which with COMPLETE=1 is a failure).
test: $(STAMP)
	@$(RUN) -m pytest $(WORKERS) $(PYTEST_ARGS)
	@$(if $(strip $(PYTEST_ARGS)),,$(EMULATED) $(CUDA_TESTS) || [ $$?$(COMPLETE) = 77 ])

EMULATED = $(RUN) tests/cuda_emulator/run.py $(RUN)
CUDA_TESTS = -m pytest -m gpu -n 2 tests/cuda

test-cuda: $(STAMP)
	@$(EMULATED) $(CUDA_TESTS) $(PYTEST_ARGS)

mutations-cuda: $(STAMP)
	@$(EMULATED) tests/cuda_emulator/mutations.py $(FAULTS)

pymc-test: $(PYMC_TESTS)

$(PYMC_TESTS): pymc-test-%: $(VENV)-pymc-%/complete-$(VERSION)
	@echo "Theano-PyMC $*"
	@$(VENV)-pymc-$*/bin/python -m pytest -q tests/test_theanos.py tests/test_theano_api.py

clients: $(STAMP)
	@$(RUN) tests/clients/run.py $(CLIENT_ARGS)

# Those of pymc-test and clients, which both set up what is missing themselves.
environments: $(THEANO_PYMC:%=$(VENV)-pymc-%/complete-$(VERSION))
	@$(RUN) tests/clients/run.py --set-up

bench: $(STAMP)
	@$(RUN) -m benchmarks $(BENCH_ARGS)

lint: $(STAMP)
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m ruff format --quiet --check .
	@$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES)

format: $(STAMP)
	@$(RUN) -m ruff check --quiet --fix .
	@$(RUN) -m ruff format --quiet .
	@$(VENV)/bin/clang-format -i $(C_FILES)

c-test:
	@$(MAKE) --no-print-directory -C tests/c

c-test-machines:
	@$(MAKE) --no-print-directory -C tests/c machines

clean:
	@rm -rf build dist *.egg-info tests/c/build .theano .pytest_cache .hypothesis .ruff_cache
	@find . -name .venv\* -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): setup.py pyproject.toml
	@if [ -z "$(VERSION)" ]; then \
		echo "$(PYTHON) does not run here."; \
	elif ! $(PYTHON) -c "$(CAN_RUN_THEANO)"; then \
		echo "$(PYTHON) is Python $(VERSION). Theano 1.0.5 needs 3.8 to 3.11."; \
	elif [ ! -e "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]; then \
		echo "$(PYTHON) lacks its C headers (Python.h), which Theano compiles against."; \
		echo "On Debian and Ubuntu: sudo apt install python$(VERSION)-dev"; \
		exit 1; \
	elif ! command -v g++ >/dev/null && [ -z "$(findstring cxx=,$(THEANO_FLAGS))" ]; then \
		echo "g++ is missing. On Debian and Ubuntu: sudo apt install g++"; \
		exit 1; \
	else exit 0; fi; \
	if [ -n "$(USABLE)" ]; then \
		echo "Usable here: $(USABLE). For example: make $(GOAL) PYTHON=$(firstword $(USABLE))"; \
	else \
		echo "Install Python 3.11 (or 3.10, 3.9, 3.8) beside it, with your system's packages,"; \
		echo "pyenv or conda. Then: make $(GOAL) PYTHON=python3.11"; \
	fi; exit 1
	@echo "Setting up $(VENV) with Python $(VERSION): a minute or two, this once."
	@$(if $(filter demo,$(GOAL)),echo "The demo itself takes three to four minutes the first time.")
	@if [ -e $(RUN) ] && $(RUN) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")'; \
		then $(PYTHON) -m venv $(VENV); else $(PYTHON) -m venv --clear $(VENV); fi
	@$(RUN) -m pip install --disable-pip-version-check -e '.[test,bench,dev]' >$(VENV)/pip.log 2>&1 \
		|| { cat $(VENV)/pip.log; echo "pip could not set up $(VENV): see above. It needs the" \
		"network, or an index of packages that PIP_INDEX_URL names."; exit 1; }
	@touch $@

# Made from the main environment's interpreter, which has passed the checks above. The package is
# not installed into it, since it would ask for Theano; it is found in the working directory.
$(VENV)-pymc-%/complete-$(VERSION): $(STAMP)
	@echo "Setting up $(@D)."
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --disable-pip-version-check Theano-PyMC==$* 'numpy<2' pytest \
		>$(@D)/pip.log 2>&1 || { cat $(@D)/pip.log; exit 1; }
	@touch $@
