"""Decide what a stop unmounts: by the configuration, else by the record of the start, else by the mount table alone.

Everything that unmounts plans here (docs/promises.md, 11): a mistake in the configuration costs a warning at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from envstart.config import common, load
from envstart.config.load import Config
from envstart.engine import record, registry
from envstart.engine.plan import NOT_MOUNTED, UNKNOWN, WRONG_SOURCE, Plan
from envstart.engine.record import Record
from envstart.environment import Environment
from envstart.errors import EnvstartError
from envstart.system.host import Host


def plan(host: Host, backend: str, environment: Environment, path: str | None = None, *, force: bool = False) -> Plan:
    """Plan the stop of a jail or VM; EnvstartError if nothing tells how, and nothing is mounted on its directories.

    ``path`` is the configuration to use instead of the usual places. ``force`` lets it use force in any case.
    """
    options = registry.backend(backend).OPTIONS
    file = load.find(backend, environment.workdir, path)
    text = record.read(environment, host.report)
    forced = common.FORCED if force else {}

    def planned(settings: Config) -> Plan:
        return registry.make_plan(backend, environment, settings.replace(**forced))

    mistake: EnvstartError | None = None
    try:
        configured = planned(load.load(backend, options, environment.name, file, environment.workdir))
        if text == record.text_of(configured):
            # As nearly always, nothing has changed since the start: the record need not be parsed.
            return configured
    except EnvstartError as error:
        mistake = error
    recorded = record.parse(environment, text, host.report)
    if mistake is not None:
        try:
            if file is None:
                raise mistake
            from envstart.config import lenient

            texts = {key: value for key, value in recorded.texts.items() if key in common.NAMES} if recorded else {}
            settings = lenient.load(backend, options, environment.name, file, recorded=texts, report=host.report)
            configured = planned(settings)
        except EnvstartError as error:
            by_record = _by_record(host, recorded, forced)
            # Each on a line of its own: the first ends with a command line.
            if recorded is not None and by_record is not None:
                host.report.warn(str(error))
                host.report.warn(f"using the record of the start instead: {recorded.path}")
                return by_record
            return _by_table(host, backend, environment, error, force=force)
    if recorded is None or _is_of(recorded, configured):
        return configured
    by_record = _by_record(host, recorded, {key: configured.config.value(key) for key in common.NAMES})
    if by_record is None or (_is_mounted(host, configured) and not _is_mounted(host, by_record)):
        return configured
    host.report.note(f"the configuration has changed since the start; using the record of the start: {recorded.path}")
    return by_record


def planner(host: Host) -> Callable[[str, Environment], Plan]:
    """Return plan() for many: each warning then begins with the name of the jail or VM."""

    def planned(backend: str, environment: Environment) -> Plan:
        subject, host.report.subject = host.report.subject, environment.name
        try:
            return plan(host, backend, environment)
        finally:
            host.report.subject = subject

    return planned


def _by_record(host: Host, recorded: Record | None, changes: Mapping[str, Any]) -> Plan | None:
    """Return the plan of the start with ``changes``; None without a record, or, with a warning, if it is unusable."""
    try:
        return recorded.plan(**changes) if recorded is not None else None
    except EnvstartError as error:
        host.report.warn(f"{error}; going on without it")
        return None


def _by_table(host: Host, backend: str, environment: Environment, error: EnvstartError, *, force: bool) -> Plan:
    """Return a plan by the mount table alone, with a warning; raise ``error`` if nothing is mounted."""
    from envstart.lifecycle import leftover

    by_table = leftover.plan(host, backend, environment, force=force)
    if not by_table.steps:
        raise error
    points = ", ".join(step.point for step in reversed(by_table.steps))
    host.report.warn(str(error))
    host.report.warn(
        f"there is no record of the start; by the mount table alone: unmounting {points}; devices and sessions below "
        "them cannot be known"
    )
    return by_table


def _is_of(recorded: Record, configured: Plan) -> bool:
    """Tell whether a record is of the same mounts as the configuration."""
    own, was = configured.environment, recorded.environment
    if recorded.backend != configured.backend or dict(recorded.inputs) != dict(configured.config.inputs):
        return False
    if (own.data, own.system, own.fstab, own.rcconf) != (was.data, was.system, was.fstab, was.rcconf):
        return False
    defaults = {option.name: option.default for option in registry.backend(recorded.backend).OPTIONS}
    return all(
        recorded.texts.get(key, defaults[key]) == configured.config.text(key)
        for key in configured.config
        if key not in common.NAMES
    )


def _is_mounted(host: Host, plan: Plan) -> bool:
    """Tell whether the mount table has any mount of the plan."""
    states = host.gather([step.observe(host) for step in plan.steps if step.point])
    return any(state.status not in (NOT_MOUNTED, WRONG_SOURCE, UNKNOWN) for state in states)
