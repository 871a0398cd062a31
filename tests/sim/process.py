"""A process of the simulated machine: `python -I process.py STATE PROGRAM ARG...`."""

from __future__ import annotations

import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(TESTS)


def main(state: str, program: str, args: list[str]) -> int:
    sys.path[:0] = [ROOT, TESTS]
    from sim import fakes, shim

    fakes.install_syslog(f"{state}/syslog")
    fakes.install_psutil(state)
    fakes.install_getfsstat(state)
    fakes.install_addresses(state)
    shim.install(state)
    import envstart.config
    import envstart.host

    # Set by name: a checker would hold the length of the real tuple against ours.
    vars(envstart.host)["SYSTEM_PATH"] = (f"{state}/bin",)
    envstart.host.STATE_DIR = f"{state}/run"
    envstart.config.SYSTEM_CONFIG_DIRS = (f"{state}/usr/local/etc/envstart", f"{state}/root/etc")
    if program.startswith("env_"):
        from envstart import hook

        return hook.main(program, args)
    from envstart import cli

    return cli.main(args)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
