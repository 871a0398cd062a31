"""Tell for which jail or VM CBSD has called a directory hook, and what it knows (docs/cbsd.md#directory-hooks)."""

from __future__ import annotations

import os

from envstart import environment
from envstart.cbsd import inventory
from envstart.engine import record
from envstart.errors import ConfigError, NotFoundError
from envstart.system import guests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envstart.cbsd.inventory import Found
    from envstart.environment import Environment
    from envstart.system.host import Host

_VARIABLES = "jname, data and workdir are not all set; CBSD sets them for what install has put in its directories"


def subject() -> Environment:
    """Return the jail or VM that CBSD's variables name; UsageError if they name none."""
    return environment.from_variables(os.environ, _VARIABLES)


def look_up(host: Host, wanted: Environment) -> Found | None:
    """Return what CBSD says of a jail or VM; None if its hook is not ours: it has our links from a skeleton.

    Where CBSD's database cannot tell its hook, the record of its last start can. NotFoundError if CBSD does not know
    it any more, ConfigError if nothing tells its hook.
    """
    assert wanted.workdir is not None
    listed = host.wait(inventory.read(host, wanted.workdir))
    found: Found | None = listed.get(wanted.name)
    if found is None and listed.complete:
        raise NotFoundError(f"cannot find {wanted.name}: {wanted.workdir} has no such jail or VM")
    if found is not None and not found.backend and listed.complete:
        return None
    if found is not None and found.backend and found.environment is not None:
        return found
    recorded = record.load(wanted, host.report)
    if recorded is None:
        why = (found.problem if found else "") or "; ".join(listed.problems)
        raise ConfigError(f"cannot tell what to do for {wanted.name}: {why}")
    by_record = inventory.Found.given(recorded.environment, recorded.backend)
    variables = dict(os.environ)
    by_record.emulator = variables.get("emulator") or by_record.emulator
    by_record.running = found.running if found else host.wait(guests.runs(host, wanted.name))
    return by_record
