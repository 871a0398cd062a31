"""Tell for which jail or VM CBSD has called a directory hook, and what it knows (docs/cbsd.md#directory-hooks)."""

from __future__ import annotations

import os

from envstart.cbsd import inventory
from envstart.cbsd.inventory import EnvironmentRecord
from envstart.engine import record
from envstart.environment import Environment, from_variables
from envstart.errors import ConfigError, NotFoundError
from envstart.system import guests
from envstart.system.host import Host

_VARIABLES = "jname, data and workdir are not all set; CBSD sets them for what install has put in its directories"


def subject() -> Environment:
    """Return the jail or VM that CBSD's variables name; UsageError if they name none."""
    return from_variables(os.environ, _VARIABLES)


def look_up(host: Host, environment: Environment) -> EnvironmentRecord | None:
    """Return what CBSD says of a jail or VM; None if its hook is not ours: it has our links from a skeleton.

    Where CBSD's database cannot tell its hook, the record of its last start can. NotFoundError if CBSD does not know
    it any more, ConfigError if nothing tells its hook.
    """
    assert environment.workdir is not None
    listed = host.complete(inventory.read(host, environment.workdir))
    registered: EnvironmentRecord | None = listed.get(environment.name)
    if registered is None and listed.complete:
        raise NotFoundError(f"cannot find {environment.name}: {environment.workdir} has no such jail or VM")
    if registered is not None and not registered.backend and listed.complete:
        return None
    if registered is not None and registered.backend and registered.environment is not None:
        return registered
    recorded = record.load(environment, host.report)
    if recorded is None:
        why = (registered.problem if registered else "") or "; ".join(listed.problems)
        raise ConfigError(f"cannot tell what to do for {environment.name}: {why}")
    by_record = inventory.EnvironmentRecord.given(recorded.environment, recorded.backend)
    variables = dict(os.environ)
    by_record.emulator = variables.get("emulator") or by_record.emulator
    by_record.running = registered.running if registered else host.complete(guests.runs(host, environment.name))
    return by_record
