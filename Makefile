# Portable: GNU make and BSD make. `make` alone lists the targets.

VENV = .venv
PREFIX = /usr/local
# Whose services, timers and examples are installed; a package for the other one can be staged anywhere.
SYSTEM = $$(uname -s)
FIND_PYTHON = for p in $(PYTHON) python3 python3.13 python3.12 python3.11; do command -v $$p && break; done
HISTORIES = 2000

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

env: $(VENV)/.run ## the virtual environment that the hooks in hooks/ use

# A host that cannot reach a package index may have the three libraries from its packages.
$(VENV)/.run: setup.cfg
	@python=$$($(FIND_PYTHON)); \
	test -n "$$python" || { echo "make: Python 3.11 or newer is needed" >&2; exit 69; }; \
	libraries=$$(sed -n '/^install_requires/,/^$$/s/^    //p' setup.cfg); \
	"$$python" -m venv $(VENV) && $(VENV)/bin/python -m pip install -q --disable-pip-version-check $$libraries || { \
		"$$python" -c 'import configobj, psutil, tenacity' && "$$python" -m venv --clear --system-site-packages $(VENV); }
	@$(VENV)/bin/python -m compileall -q envstart
	@$(VENV)/bin/python -c 'import sqlite3' 2>/dev/null || \
		echo "make: this Python has no sqlite3, and cannot read CBSD's database; on FreeBSD: pkg install py311-sqlite3" >&2
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@tools=$$(sed -n '/^test =/,/^$$/s/^    //p' setup.cfg); \
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check $$tools
	@touch $@

# Tests wait more than they work: they run side by side, and after them, alone, those that measure time; then histories,
# and the short list of the lab; what fails in that, for whose guests a machine can be too slow, is run once more, alone.
test: $(VENV)/.test ## ruff, mypy and all tests (fifty minutes; make test HISTORIES=20: half of that)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal -m "not alone"
	$(VENV)/bin/python -m pytest -m alone
	$(VENV)/bin/python tools/soak.py --twice --histories $(HISTORIES)
	ENVSTART_LAB=short $(VENV)/bin/python -m pytest -n 2 tests/lab || \
		ENVSTART_LAB=short $(VENV)/bin/python -m pytest --last-failed --last-failed-no-failures none tests/lab

test-gluster: $(VENV)/.test ## the hooks on a real GlusterFS server (root, glusterfs-server, glusterfs-client, iproute2)
	ENVSTART_REAL=glusterd $(VENV)/bin/python -m pytest tests/real/test_gluster.py

test-ceph: $(VENV)/.test ## the hooks on a real CephFS of one machine (root, ceph-mon, -osd, -mds, -fuse, -common, iproute2)
	ENVSTART_REAL=ceph-mon $(VENV)/bin/python -m pytest tests/real/test_ceph.py

lab: $(VENV)/.test ## the hooks on virtual machines with real kernels, servers frozen and hosts switched off (root, Debian)
	ENVSTART_REAL=qemu-system-x86_64 $(VENV)/bin/python -m pytest -n 2 tests/lab

storm: $(VENV)/.test ## fifty hooks at any moment that start and stop the same environments, for STORM=30 seconds each
	ENVSTART_STORM=$${STORM:-30} $(VENV)/bin/python -m pytest -s tests/hooks/test_storm.py

fuzz: $(VENV)/.test ## what is read from commands, files and callers, FUZZ=100 times as much as make test; SEED=N repeats
	@seed=$${SEED:-$$(date +%s)}; echo "make fuzz SEED=$$seed FUZZ=$${FUZZ:-100}"; \
	ENVSTART_FUZZ=$${FUZZ:-100} $(VENV)/bin/python -m pytest -n $$(getconf _NPROCESSORS_ONLN) --hypothesis-seed=$$seed \
		tests/unit/test_fuzz.py tests/hooks/test_fuzz.py tests/unit/config/test_shell.py

lifecycle: $(VENV)/.test ## every way in which any command of a start or a stop can go wrong, counted (half an hour)
	ENVSTART_ALL_WAYS=1 $(VENV)/bin/python -m pytest tests/hooks/test_lifecycle.py

# The same ones each time.
machine: $(VENV)/.test ## histories of starts, stops, faults and crashes, and the promises after each act
	@$(VENV)/bin/python tools/soak.py --histories $(HISTORIES)

# Others each time; SECONDS=600 for ten minutes.
SECONDS = 3600
soak: $(VENV)/.test ## the same for an hour
	@$(VENV)/bin/python tools/soak.py --random --seconds $(SECONDS)

mutants: $(VENV)/.test ## load-bearing lines broken one by one: do the tests notice?
	@$(VENV)/bin/python tools/mutants.py

demo: $(VENV)/.run ## the main job on real directories and real mounts (as root, or in a user namespace)
	@$(VENV)/bin/python tools/demo.py

replay: $(VENV)/.test ## how far the simulated FreeBSD of the tests agrees with a real one
	@cd tests && ../$(VENV)/bin/python -m sim.replay

faults: $(VENV)/.test ## each fault and case of docs/faults.md and docs/cases.md with the tests that name it; 1 if one has none
	@$(VENV)/bin/python tools/faults.py

bench: $(VENV)/.test ## what the hook costs beside a shell hook and a bare interpreter, and each limit; WRITE=1: docs/speed.md
	@$(VENV)/bin/python tools/bench.py $${WRITE:+--write}

bench-check: $(VENV)/.test ## what a check of 1,000 environments costs, also when 40 of their mounts hang
	@$(VENV)/bin/python tools/bench_check.py

docs: $(VENV)/.run ## the files, and parts of files, that are made from the code
	@$(VENV)/bin/python tools/generate.py

dist: $(VENV)/.run ## a wheel and an sdist in dist/
	@$(VENV)/bin/python -m pip install -q --disable-pip-version-check build
	@$(VENV)/bin/python -m build -o dist .

# Below DESTDIR and PREFIX, in the layout of a checkout. PYTHON runs the programs then: one that has the libraries. Where
# these files name each other they name PREFIX; what is the system's own stays as it is. The same files are in
# port/pkg-plist.
install: ## what a package has: DESTDIR=stage PREFIX=/usr/local PYTHON=/usr/local/bin/python3.11 SYSTEM=Linux
	@set -eu; umask 022; to=$(DESTDIR)$(PREFIX); lib=$$to/libexec/envstart; share=$$to/share; \
	put() { mode=$$1 into=$$2; shift 2; install -d "$$into"; install -m "$$mode" "$$@" "$$into"; }; \
	ours='sbin/envstart libexec/envstart etc/envstart share/examples/envstart'; moved=; \
	for place in $$ours; do moved="$$moved;s|/usr/local/$$place|$(PREFIX)/$$place|g"; done; \
	fill() { install -d "$${3%/*}"; sed "$${moved#;}" "$$2" > "$$3"; chmod "$$1" "$$3"; }; \
	put 755 "$$lib/hooks" hooks/env*; \
	sed -e 's|^own=.*|own=$(PYTHON)|' -e 's|^remedy=.*|remedy="install it anew: make install PREFIX=$(PREFIX) PYTHON=..."|' \
		hooks/run-hook > "$$lib/hooks/run-hook"; \
	chmod 644 "$$lib/hooks/run-hook"; \
	for file in $$(find envstart -name __init__.py); do put 644 "$$lib/$${file%/*}" "$${file%/*}"/*.py; done; \
	(cd "$$lib" && find envstart -name '*.py') | while read -r file; do test -e "$$file" || rm "$$lib/$$file"; done; \
	test -z "$(PYTHON)" || $(PYTHON) -I -m compileall -q -s "$(DESTDIR)" "$$lib/envstart"; \
	install -d "$$to/sbin"; ln -sf ../libexec/envstart/hooks/envstart "$$to/sbin/envstart"; \
	install -d "$$to/etc/envstart"; \
	for file in conf/*; do install -m 644 "$$file" "$$to/etc/envstart/$${file##*/}.sample"; done; \
	case $(SYSTEM) in \
	Linux) \
		for file in linux/systemd/*; do fill 644 "$$file" "$$to/lib/systemd/system/$${file##*/}"; done; \
		fill 644 linux/tmpfiles.d/envstart.conf "$$to/lib/tmpfiles.d/envstart.conf" ;; \
	*) \
		fill 755 freebsd/rc.d/envstart "$$to/etc/rc.d/envstart"; \
		fill 755 freebsd/periodic/490.status-envstart "$$to/etc/periodic/daily/490.status-envstart"; \
		for file in freebsd/examples/*; do fill 644 "$$file" "$$share/examples/envstart/$${file##*/}"; done ;; \
	esac; \
	for file in man/*; do fill 644 "$$file" "$$share/man/man$${file##*.}/$${file##*/}"; done; \
	for file in hooks/env_*; do ln -sf env_start.8 "$$share/man/man8/$${file##*/}.8"; done; \
	put 644 "$$share/zsh/site-functions" completions/_envstart; \
	put 644 "$$share/examples/envstart" completions/envstart.tcsh; \
	install -d "$$share/bash-completion/completions"; \
	install -m 644 completions/envstart.bash "$$share/bash-completion/completions/envstart"

# What belongs to it is what `make install` would put there. WORKDIR: CBSD's, where rc.conf(5) does not name it.
uninstall: ## remove what make install has put there, with its DESTDIR and PREFIX; FORCE=1: although it is in use
	@set -eu; stage=$$(mktemp -d); trap 'rm -rf "$$stage"' EXIT; \
	$(MAKE) -s install DESTDIR="$$stage" PREFIX="$(PREFIX)" PYTHON= SYSTEM="$(SYSTEM)"; \
	"$$($(FIND_PYTHON))" tools/uninstall.py $(WORKDIR:%=--workdir=%) $(FORCE:%=--force) \
		--destdir="$(DESTDIR)" --prefix="$(PREFIX)" "$$stage"

clean: ## the virtual environment and what tools leave behind
	rm -rf $(VENV) lab-consoles .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist envstart.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help env test test-gluster test-ceph lab storm fuzz lifecycle machine soak mutants demo replay faults bench \
	bench-check docs dist install uninstall clean
