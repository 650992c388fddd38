# setup, build, binary, wheel, demo, man, test, test-modules, test-vm, test-engines, conformance, bench, lint, sanitize,
# install, uninstall, clean. Every target installs what it needs, asks nothing and reads no input; a second run does only
# what has changed. Without root it works where the system packages are there.

PYTHON ?= /usr/bin/python3
PREFIX ?= /usr/local
DESTDIR ?=
WHEEL_DIR ?= dist
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Those that are installed are compared with ocirt.
CONFORMANCE_RUNTIMES ?= ocirt $(wildcard /usr/sbin/runc /usr/bin/crun)
CONFORMANCE_ARGS ?= --vm --mutate
# What runs a second time, with the modules.
MODULES_TESTS ?= tests/integration
# What runs in the machine with every controller (tools/vm.py), and in the one with systemd as its first process.
# Emulated, it takes ten times as long as here: hence those tests alone to which the kernel or systemd matter.
VM_TESTS ?= tests/vm tests/integration/cgroup tests/integration/rootless/test_cgroups.py tests/c/test_process_limits.py \
	$(patsubst %,tests/integration/test_%.py,cgroup_filter devices events pause update)
VM_SYSTEMD_TESTS ?= tests/vm/test_bed.py tests/integration/systemd
VM_TIMEOUT ?= 3600

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
OCIRT ?= $(BIN)/python -I -m ocirt
SHARE := $(PREFIX)/share
COMPLETIONS := bash-completion/completions/ocirt zsh/site-functions/_ocirt fish/vendor_completions.d/ocirt.fish

C_SOURCES := $(wildcard c_ext/*.c)
C_HEADERS := $(wildcard c_ext/*.h)
SANITIZE := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# A path in the place of setuptools' import hook, which takes longer to start than all the rest of a command.
EDITABLE := --config-settings editable_mode=compat
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.PHONY: setup build binary wheel demo man test test-modules test-vm test-engines conformance bench lint sanitize install \
	uninstall clean FORCE

setup: $(STAMPS)/test

$(STAMPS)/venv: tools/setup.sh
	sh tools/setup.sh build
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ocirt needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

# The extension is built in place, so that the tree is what runs; --no-build-isolation fetches no second set of tools.
$(STAMPS)/build: $(STAMPS)/venv pyproject.toml $(wildcard setup.py c_ext/build.py) $(C_SOURCES) $(C_HEADERS)
	$(BIN)/python -m pip install -q 'setuptools>=77' wheel 'cffi>=1.16,<3' </dev/null
	rm -f ocirt/_native*.so
	$(BIN)/python -m pip install -q --no-build-isolation $(EDITABLE) -e . </dev/null
	touch $@

$(STAMPS)/test: $(STAMPS)/build pyproject.toml tools/setup.sh
	sh tools/setup.sh test
	$(BIN)/python -m pip install -q --no-build-isolation $(EDITABLE) -e '.[build,test,lint]' </dev/null
	touch $@

build: $(STAMPS)/build

# One static file with the interpreter started in it: docs/standalone.md.
BINARY := dist/ocirt
BINARY_SOURCES := $(shell find ocirt c_ext tools/standalone -name '*.py' -o -name '*.json' -o -path 'c_ext/*.[ch]') \
	tools/mkrootfs.py bench/seccomp_profile.py bench/syscalls.txt

$(STAMPS)/binary: $(STAMPS)/build tools/setup.sh
	sh tools/setup.sh binary
	touch $@

# It changes when --version is to say something else.
build/commit: FORCE
	@$(PYTHON) -m tools.commit $@

$(BINARY): $(STAMPS)/binary $(BINARY_SOURCES) build/commit
	$(BIN)/python -m tools.standalone $@

binary: $(BINARY)

# Below build/lib setuptools would find modules that the tree has no more.
wheel: $(BINARY)
	rm -rf build/lib* build/bdist* build/scripts*
	OCIRT_WHEEL_BINARY=$(BINARY) $(BIN)/python -m pip wheel -q --no-build-isolation --no-deps -w '$(WHEEL_DIR)' . </dev/null

demo: $(STAMPS)/build
	$(BIN)/python tools/demo.py .demo $(OCIRT)

man: $(STAMPS)/build
	$(BIN)/python tools/man.py build/man

lint: $(STAMPS)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	clang-format --dry-run -Werror $(C_SOURCES) $(C_HEADERS) $(wildcard c_ext/standalone/*.[ch] bench/*.c tests/*/*.c)

# The same init under the address and undefined-behaviour sanitizers (which need glibc), for the tests in tests/c.
build/sanitize/ocirt-init: $(STAMPS)/test $(C_SOURCES) $(C_HEADERS)
	CC=clang $(BIN)/python c_ext/build.py $@ $(SANITIZE)

sanitize: build/sanitize/ocirt-init

# With the binary, since that is what is installed, and twice as fast. The machine's tests are part of it where such a
# machine boots: QEMU and a kernel are installed, which CI sees to. PYTEST_ARGS choose of the first run; there is no
# second one then.
test: lint sanitize $(BINARY)
	OCIRT=$(BINARY) $(BIN)/python -m pytest --ignore tests/engines $(PYTEST_ARGS) </dev/null
	$(if $(PYTEST_ARGS),,$(MAKE) test-modules)
	if [ "$$CI" = true ]; then $(MAKE) $(STAMPS)/vm; fi
	if $(BIN)/python tools/vm.py --systemd --timeout 600 -- true </dev/null; then $(MAKE) test-vm; else \
		echo 'test-vm: not run on this machine, for the reason above'; fi

$(STAMPS)/vm: $(STAMPS)/test tools/setup.sh
	sh tools/setup.sh vm
	touch $@

# The integration tests once more, without those of other runtimes. Both forms are the same source, but in this one a
# module is imported when it is needed: by another user, in another folder, with another root.
test-modules: $(STAMPS)/test $(BINARY)
	$(BIN)/python -m pytest -k 'not [runc' $(MODULES_TESTS) </dev/null

VM := $(BIN)/python tools/vm.py --verbose --timeout $(VM_TIMEOUT)
VM_PYTEST := env OCIRT=$(BINARY) $(BIN)/python -m pytest -p no:cacheprovider

test-vm: $(STAMPS)/vm $(BINARY)
	$(VM) -- $(VM_PYTEST) -n 2 -m 'cgroup and not alone' $(VM_TESTS) </dev/null
	$(VM) -- $(VM_PYTEST) -m alone tests/vm </dev/null
	$(VM) --systemd -- $(VM_PYTEST) -m systemd $(VM_SYSTEMD_TESTS) </dev/null

$(STAMPS)/engines: $(STAMPS)/test pyproject.toml tools/setup.sh
	sh tools/setup.sh engines
	$(BIN)/python -m pip install -q --no-build-isolation $(EDITABLE) -e '.[engines]' </dev/null
	touch $@

# As root: ocirt in containerd, Docker, Podman and Buildah, here and, for what needs controllers or systemd, in the machine.
test-engines: $(STAMPS)/engines $(BINARY)
	rm -rf build/engines
	$(BIN)/python -m pytest $(PYTEST_ARGS) tests/engines </dev/null
	if [ "$$CI" = true ]; then $(MAKE) $(STAMPS)/vm; fi
	if $(BIN)/python tools/vm.py --check; then \
		$(BIN)/python -m tests.engines.table --record $(VM) -- \
			$(VM_PYTEST) -m 'controllers and not systemd' tests/engines </dev/null && \
		$(BIN)/python -m tests.engines.table --record $(VM) --systemd -- $(VM_PYTEST) -m systemd tests/engines </dev/null; fi
	$(BIN)/python -m tests.engines.table --check || \
		echo 'docs/engines.md: the table of this run is another one (python -m tests.engines.table)'

$(STAMPS)/browser: tools/setup.sh $(STAMPS)/venv
	sh tools/setup.sh browser
	touch $@

# As root: the tests of the specification's requirements, here and, for what needs controllers, in the machine. Their
# reports are in spec-conformance.
conformance: $(STAMPS)/test $(BINARY)
	if [ "$$CI" = true ]; then $(MAKE) $(STAMPS)/vm $(STAMPS)/browser; fi
	OCIRT=$(BINARY) $(BIN)/python spec-conformance/run $(addprefix --runtime ,$(CONFORMANCE_RUNTIMES)) \
		$(CONFORMANCE_ARGS) </dev/null
	$(BIN)/python -m pytest tests/unit/test_conformance.py tests/unit/test_conformance_page.py </dev/null

# As root. bench/README.md says what it measures, and which runtimes.
bench: $(STAMPS)/test $(BINARY)
	$(BIN)/python -m bench $(BENCH_ARGS) </dev/null

install: $(BINARY)
	install -D -m 755 $(BINARY) '$(DESTDIR)$(PREFIX)/bin/ocirt'
	$(BIN)/python tools/man.py '$(DESTDIR)$(SHARE)/man/man8'
	for file in $(COMPLETIONS); do mkdir -p "$$(dirname '$(DESTDIR)$(SHARE)'/$$file)"; done
	$(BINARY) completion bash > '$(DESTDIR)$(SHARE)/bash-completion/completions/ocirt'
	$(BINARY) completion zsh > '$(DESTDIR)$(SHARE)/zsh/site-functions/_ocirt'
	$(BINARY) completion fish > '$(DESTDIR)$(SHARE)/fish/vendor_completions.d/ocirt.fish'

uninstall:
	rm -f '$(DESTDIR)$(PREFIX)/bin/ocirt'
	rm -f '$(DESTDIR)$(SHARE)'/man/man8/ocirt.8 '$(DESTDIR)$(SHARE)'/man/man8/ocirt-*.8
	for file in $(COMPLETIONS); do rm -f '$(DESTDIR)$(SHARE)'/$$file; done

clean:
	rm -rf $(VENV) build dist .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	rm -f ocirt/_native*.so ocirt/_native.c
	find bench ocirt c_ext tests tools spec-conformance -name __pycache__ -prune -exec rm -rf {} +
