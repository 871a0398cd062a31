# Portable: GNU make and BSD make. `make` alone lists the targets.

VENV = .venv

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

env: $(VENV)/.run ## the virtual environment that the hooks in hooks/ use

# A host that cannot reach a package index may have the three libraries from its packages.
$(VENV)/.run: setup.cfg
	@python=$$(for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10 python3.9; do \
		command -v $$p && break; done); \
	test -n "$$python" || { echo "make: Python 3.9 or newer is needed" >&2; exit 69; }; \
	libraries=$$(sed -n '/^install_requires/,/^$$/s/^    //p' setup.cfg); \
	"$$python" -m venv $(VENV) && $(VENV)/bin/python -m pip install -q --disable-pip-version-check $$libraries || { \
		"$$python" -c 'import configobj, psutil, tenacity' && "$$python" -m venv --clear --system-site-packages $(VENV); }
	@$(VENV)/bin/python -m compileall -q envstart
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@tools=$$(sed -n '/^test =/,/^$$/s/^    //p' setup.cfg); \
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check $$tools
	@touch $@

test: $(VENV)/.test ## ruff, mypy and all tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest

test-gluster: $(VENV)/.test ## the hooks on a real GlusterFS server (root, glusterfs-server, glusterfs-client, iproute2)
	ENVSTART_REAL=glusterd $(VENV)/bin/python -m pytest tests/test_real_gluster.py

test-ceph: $(VENV)/.test ## the hooks on a real CephFS of one machine (root, ceph-mon, -osd, -mds, -fuse, -common, iproute2)
	ENVSTART_REAL=ceph-mon $(VENV)/bin/python -m pytest tests/test_real_ceph.py

lifecycle: $(VENV)/.test ## every way in which any command of a volume's start or stop can go wrong (half an hour)
	ENVSTART_ALL_WAYS=1 $(VENV)/bin/python -m pytest tests/test_lifecycle.py

demo: $(VENV)/.run ## the main job on real directories and real mounts (as root, or in a user namespace)
	@$(VENV)/bin/python tests/demo.py

replay: $(VENV)/.test ## how far the simulated FreeBSD of the tests agrees with a real one
	@cd tests && ../$(VENV)/bin/python -m sim.replay

faults: $(VENV)/.test ## each fault of the field's catalogue with the tests that name it
	@$(VENV)/bin/python tests/faults.py

bench: $(VENV)/.test ## the hook's time beside a shell hook's, in ratios
	@$(VENV)/bin/python tests/bench.py

docs: $(VENV)/.run ## the files that are made from the code: conf/ and the tables of README.md
	@$(VENV)/bin/python tests/generate.py

clean: ## the virtual environment and what tools leave behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist envstart.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help env test test-gluster test-ceph lifecycle demo replay faults bench docs clean
