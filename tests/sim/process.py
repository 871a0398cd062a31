"""A process of the simulated machine: `python -I process.py STATE PROGRAM ARG...`."""

from __future__ import annotations

import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(TESTS)


def main(state: str, program: str, args: list[str]) -> int:
    sys.path[:0] = [ROOT, TESTS]
    from sim import fakes, network, shim, store

    fakes.install_syslog(f"{state}/syslog")
    fakes.install_psutil(state)
    fakes.install_c_library(state)
    network.install(state)
    shim.install(state)
    from envstart import hooks
    from envstart.config import places, staging
    from envstart.engine import record
    from envstart.hooks import remember
    from envstart.lifecycle import pkg_locking
    from envstart.steps import diagnosis, sources
    from envstart.system import rundir, runner

    # Set by name: a checker would hold the length of the real tuple against ours.
    vars(runner)["SYSTEM_PATH"] = (f"{state}/bin",)
    rundir.DIR = staging.OLD_DIR = f"{state}/run"
    staging.DIR, staging.PARENT = f"{state}/var/db/envstart", state
    record.DIR = f"{state}/var/db/envstart"
    # Tests change a file and go on at once; its size or its name is another one then.
    remember.SETTLED = 0.0
    places.SYSTEM_CONFIG_DIRS = (f"{state}/usr/local/etc/envstart", f"{state}/root/etc")
    # The machine of the tests may have been started a moment ago, too.
    diagnosis.BOOTING = float("inf") if store.Store(state).read()["settings"]["just_booted"] else 0.0
    pkg_locking.HOST_CONF = f"{state}/usr/local/etc/pkg.conf"
    sources.FSTAB = f"{state}/root/etc/fstab"
    # Packages that were not installed with it.
    sys.modules.update(dict.fromkeys(store.Store(state).read()["settings"]["no_modules"]))  # type: ignore[arg-type]
    if program.startswith("env_"):
        return hooks.main(program, args)
    from envstart.cli import main as cli

    return cli.main(args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
