"""Decide what a stop unmounts: by the configuration, else by the record of the start, else by the mount table alone.

Everything that unmounts plans here (docs/promises.md, 11): a mistake in the configuration costs a warning at most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envstart.config import common, load
from envstart.config.load import Config
from envstart.engine import record, registry
from envstart.engine.plan import NOT_MOUNTED, UNKNOWN, WRONG_SOURCE, Plan
from envstart.engine.record import Record
from envstart.environment import Environment
from envstart.errors import EnvstartError
from envstart.mounts.table import Entry, Table
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.system.host import Host

_CLIENTS = ("fuse.glusterfs", "fuse.ceph-fuse", "fusefs", "fusefs.glusterf", "fusefs.glusterfs", "fusefs.ceph-fus")
_VOLUME = ("nullfs", "ufs", "ext4")
# Kinds (Entry.kind) of the mounts that each backend makes on the directories of a jail or VM.
_KINDS = {
    "nfs": ("nfs",),
    "nullfs": ("nullfs",),
    "gluster": ("nullfs", *_CLIENTS),
    "ceph": ("nullfs", "ceph", *_CLIENTS),
    **dict.fromkeys(("iscsi", "geli", "hast", "rbd"), _VOLUME),
}
# Where a thin jail has its own files, below the data directory.
_SKELETON = "skeleton"


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
    leftovers = by_table(host, backend, environment, force=force)
    if not leftovers.steps:
        raise error
    points = ", ".join(step.point for step in reversed(leftovers.steps))
    host.report.warn(str(error))
    unmounting = f"by the mount table alone: unmounting {points}; devices and sessions below them cannot be known"
    host.report.warn(f"there is no record of the start; {unmounting}")
    return leftovers


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


class Leftover(Mount):
    """Mount on a directory that nothing describes: a stop that fails cannot bring it back."""

    def __init__(self, spec: MountSpec, environment: Environment, config: Config, backend: str) -> None:
        """Take the mount as the table has it."""
        super().__init__(spec, environment, config)
        self._backend = backend

    async def matches(self, host: Host, table: Table, entry: Entry) -> bool:
        """Tell whether a mount is of a kind that the backend makes."""
        return _is_made_by(self._backend, table, entry)

    def journal_stop(self, host: Host) -> None:
        """Leave it unmounted."""


def _is_made_by(backend: str, table: Table, entry: Entry) -> bool:
    """Tell whether a mount is of a kind that the backend makes; with ``backend`` "", that any of them makes."""
    kinds = _KINDS[backend] if backend else [kind for kinds in _KINDS.values() for kind in kinds]
    if entry.kind in kinds:
        return True
    # A bind mount of Linux has the kind of the file system that it shows, which is mounted elsewhere too.
    twins = [other for other in table if other.device == entry.device and other.point != entry.point]
    return "nullfs" in kinds and bool(entry.device) and (entry.root != "/" or bool(twins))


def by_table(host: Host, backend: str, environment: Environment, *, force: bool = False) -> Plan:
    """Plan to unmount what lies on the directories of a jail or VM, newest first; no steps if nothing does."""
    values = {option.name: option.read(option.default or "", environment.name) for option in common.OPTIONS}
    config = Config(None, {**values, **(common.FORCED if force else {})}, {}, {})
    points = {"system": environment.system, **({"fstab": environment.fstab} if environment.fstab else {})}
    points |= {"data": environment.data, _SKELETON: f"{environment.data}/{_SKELETON}"}
    table = host.complete(host.mounts())
    steps = []
    for name, point in points.items():
        stack: Sequence[Entry] = ()
        # What lies on something that gives no answer the table does not know by this name.
        with contextlib.suppress(EnvstartError, OSError):
            stack = host.complete(host.stack(point))
        if stack and all(_is_made_by(backend, table, entry) for entry in stack):
            spec = MountSpec(name, stack[-1].kind, (), stack[-1].source, point, config[common.TIMEOUT])
            steps.append(Leftover(spec, environment, config, backend))
    return Plan(backend, environment, config, steps)
