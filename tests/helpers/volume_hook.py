"""A hook for a file system on a device of Linux: the steps that all block backends end with, and none of their own.

``volume_hook.py start|stop|status CONFIG ARGV...``: CONFIG is as geli's, with the device as GELI_PROVIDER and no key.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from envstart import environment, lifecycle
from envstart.backends import geli
from envstart.cbsd import survey
from envstart.cbsd.monitored import Monitored
from envstart.config import common, load
from envstart.engine.plan import Plan
from envstart.steps.block import Node
from envstart.storage import volume
from envstart.system.host import Host
from envstart.system.log import Report


def plan(path: str, argv: list[str]) -> Plan:
    wanted = environment.parse(argv).environment()
    values = load.load("geli", geli.OPTIONS, wanted.name, path, wanted.workdir)
    device = Node(values[geli.GELI_PROVIDER], values[common.PROBE_TIMEOUT])
    return Plan("test", wanted, values, [device, *volume.steps(wanted, values, device, guarded=False)])


def main(verb: str, path: str, argv: list[str]) -> int:
    os.chdir("/")
    report = Report("volume")

    def body() -> int:
        made, host = plan(path, argv), Host(report)
        if verb == "status":
            print(json.dumps([row.record() for row in survey.running(host, [Monitored.given(made)], "read")]))
        else:
            lifecycle.act(verb, made, host)
        return os.EX_OK

    return lifecycle.guarded(report, body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
