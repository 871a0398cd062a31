# Portable: GNU make and BSD make. `make` alone lists the targets.

VENV = .venv
PREFIX = /usr/local
# Whose services, timers and examples are installed; a package for the other one can be staged anywhere.
SYSTEM = $$(uname -s)
FIND_PYTHON = for p in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done
INSTALL_PYTHON = command -v pkg >/dev/null && echo pkg install python311 || \
	{ command -v dnf >/dev/null && echo dnf install python3.11 || echo apt-get install python3; }

help: ## this list
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

##@ Use

env: $(VENV)/.run ## the virtual environment that the hooks in hooks/ use

$(VENV)/.run: setup.cfg tools/environment.py
	@python=$$($(FIND_PYTHON)); test -n "$$python" || { \
		echo "make: Python 3.11 or newer is missing: $$($(INSTALL_PYTHON))" >&2; exit 69; }; \
	"$$python" tools/environment.py $(VENV) run
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@$(VENV)/bin/python tools/environment.py $(VENV) test
	@touch $@

##@ Tests

check: $(VENV)/.test ## style, types, layers and unit tests (two to three minutes); PARTS="types units": these alone
	@$(VENV)/bin/python tools/suite.py check $(PARTS)

test: $(VENV)/.test ## all that a change can break (ten minutes); PARTS="hooks real": these alone; SEED=N: in that order
	@$(VENV)/bin/python tools/suite.py test $(PARTS)

demo: $(VENV)/.run ## the main job on real directories and real mounts (as root, or in a user namespace)
	@$(VENV)/bin/python tools/demo.py

##@ Proof, in parts

proof: $(VENV)/.test ## all of these (more than an hour, .ci/run has smaller sizes); WRITE=1 puts what they find into docs/proof.md
	@$(VENV)/bin/python tools/suite.py proof

proof-slow: $(VENV)/.test ## tests that are marked proof: ways and waits for which make test has no time
proof-alone: $(VENV)/.test ## those of them beside which nothing may run
proof-lifecycle: $(VENV)/.test ## every command of a start and a stop going wrong in every way; WAYS=: in one way each
proof-histories: $(VENV)/.test ## HISTORIES=2000 of starts, stops, faults and crashes, and the promises after each act
proof-storm: $(VENV)/.test ## fifty hooks at any moment that start and stop the same jails, for STORM=30 seconds each
proof-fuzz: $(VENV)/.test ## what is read from commands, files and callers, FUZZ=20 times as much as make test
proof-mutants: $(VENV)/.test ## load-bearing expressions broken one by one: do the tests notice?
proof-bench: $(VENV)/.test ## limits of a hook's memory, and of a check's growth with the number of jails
proof-gluster: $(VENV)/.test ## a real GlusterFS server (root, glusterfs-server, glusterfs-client, iproute2)
proof-ceph: $(VENV)/.test ## a real CephFS of one machine (root, ceph-mon, -osd, -mds, -fuse, -common, iproute2)
proof-lab: $(VENV)/.test ## virtual machines, servers frozen, hosts switched off (root, Debian); LAB=all: an hour

proof-slow proof-alone proof-lifecycle proof-histories proof-storm proof-fuzz proof-mutants proof-bench \
proof-gluster proof-ceph proof-lab:
	@part=$@; $(VENV)/bin/python tools/suite.py proof $${part#proof-}

##@ Tools

# Others each time; SECONDS=600 for ten minutes.
SECONDS = 3600
soak: $(VENV)/.test ## histories, others each time, for an hour
	@$(VENV)/bin/python tools/soak.py --random --seconds $(SECONDS)

replay: $(VENV)/.test ## how far the simulated FreeBSD of the tests agrees with a real one
	@cd tests && ../$(VENV)/bin/python -m sim.replay

faults: $(VENV)/.test ## each fault and case of docs/faults.md and docs/cases.md with the tests that name it; 1 if one has none
	@$(VENV)/bin/python tools/faults.py

bench: $(VENV)/.test ## what the hook costs beside a shell hook and a bare interpreter, and each limit; WRITE=1: docs/speed.md
	@$(VENV)/bin/python tools/bench.py $${WRITE:+--write}

bench-check: $(VENV)/.test ## what a check of 1,000 environments costs, also when 40 of their mounts hang
	@$(VENV)/bin/python tools/bench_check.py

##@ Packages

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
	rm -rf $(VENV) .coverage lab-consoles .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist envstart.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help env check test demo proof proof-slow proof-alone proof-lifecycle proof-histories proof-storm proof-fuzz \
	proof-mutants proof-bench proof-gluster proof-ceph proof-lab soak replay faults bench bench-check docs dist \
	install uninstall clean
