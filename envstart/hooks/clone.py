"""Run ``env_clone_nfs``, for CBSD's clone-local.d (docs/cbsd.md#clones): the file server copies a jail's directories.

CBSD's jclone names the two jails by variables. After the hook it takes the new data directory as it finds it,
and writes into the new system and fstab directories of this host; so of the copies only data are mounted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from envstart import environment, lifecycle
from envstart.backends import nfs
from envstart.config import common, directories, staging
from envstart.config.schema import ALNUM
from envstart.engine.plan import NOT_READY, READY, Observation, Plan
from envstart.environment import Environment, file_name
from envstart.errors import ConfigError, EnvstartError, NotFoundError, NotOnServerError, TemporaryError, UsageError
from envstart.steps.block import Block
from envstart.steps.mount import Mount
from envstart.steps.mount_spec import MountSpec
from envstart.system import filesystem
from envstart.system.command import Result
from envstart.system.host import Host
from envstart.system.log import tell

PROGRAM = "env_clone_nfs"
# What neither this host nor a shell on the server takes for anything else.
_SAFE = ALNUM | set("/._-@%:+,=")


def main(argv: Sequence[str], host: Host) -> int:
    """Run the hook and return its exit status; raises EnvstartError."""
    arguments = environment.parse(argv)
    if arguments.help:
        tell(f"usage: {PROGRAM} [-c config] [-nv], with jname, data, workdir, newjname and newdata as variables\n")
        return os.EX_OK
    if set(arguments.values) - {"-c"}:
        raise UsageError(
            f"cannot use {' '.join(arguments.values)}: CBSD names the jails by variables", hint="-h tells which"
        )
    report = host.report
    report.verbose = arguments.verbose
    old, new = environments(os.environ)
    report.subject = new.name
    plan = planned(old, new, arguments.values.get("-c"))
    report.about(new.name, plan.config[common.LOG_FACILITY])
    if arguments.dry_run:
        from envstart.lifecycle.forecast import describe

        describe(plan, report, "start")
    else:
        lifecycle.act("start", plan, host)
    return os.EX_OK


def environments(variables: Mapping[str, str]) -> tuple[Environment, Environment]:
    """Return the jail to copy and the new one; UsageError if the variables do not tell."""
    lacking = [name for name in ("jname", "data", "workdir", "newjname") if not variables.get(name)]
    if lacking:
        raise UsageError(
            f"cannot tell what to clone: {', '.join(lacking)} not set", hint="cbsd jclone sets them for clone-local.d"
        )
    name, workdir = variables["newjname"], variables["workdir"]
    if name == variables["jname"]:
        raise UsageError(f"cannot clone {name} to itself")
    old = environment.in_workdir(variables["jname"], workdir, variables["data"])
    return old, environment.in_workdir(name, workdir, variables.get("newdata", ""))


def planned(old: Environment, new: Environment, path: str | None) -> Plan:
    """Plan copies of all directories that ``old`` has to itself on the server, and the mount of the new data."""
    source, target = (lifecycle.load("nfs", jail, path) for jail in (old, new))
    config, server = target.config, target.config[nfs.NFS_SERVER]
    failure = f"cannot clone {old.name} to {new.name}"
    if config[nfs.CLONE_COMMAND] is None:
        hint = f"as in: ssh root@{server} cp -a {{old}} {{new}}"
        raise ConfigError(f"{failure}: CLONE_COMMAND is not set", hint=hint)
    if source.config[nfs.NFS_SERVER] != server:
        raise ConfigError(f"{failure} on the server: one is on {source.config[nfs.NFS_SERVER]}, the other on {server}")
    (data,) = (step for step in target.steps if isinstance(step, Mount) and step.name == "data")
    originals = {
        item.name: item.path for item in directories.of(old, source.config, nfs.DIRECTORIES) if not item.shared
    }
    copies: list[Copy] = []
    for item in directories.of(new, config, nfs.DIRECTORIES):
        original = originals.get(item.name)
        if original is None or item.shared:
            continue
        for directory in (original, item.path):
            if not _SAFE.issuperset(directory):
                raise ConfigError(f"{failure}: a shell on the server would not take {directory!r} for one word")
        copies.append(Copy(item.name, original, item.path, data, target))
    vacancy = Vacancy(copies)
    for lower, copy in zip([vacancy, *copies], copies):
        copy.lower = lower
    data.lower = copies[-1]
    return Plan("nfs", new, config, [vacancy, *copies, data])


class Vacancy(Block):
    """Check that the server has none of the new directories yet."""

    fstype = "clone"

    def __init__(self, copies: Sequence[Copy]) -> None:
        """Take the copies that are to be made."""
        super().__init__("target", "new directories on the server")
        self._copies = copies

    async def inspect(self, host: Host) -> Observation:
        """Return whether start() has looked."""
        problem = NotFoundError("cannot tell yet whether the new directories are there")
        if (self, "vacant") in host.learnt:
            return Observation(READY)
        return Observation(NOT_READY, "looked for by mounting them", problem)

    async def start(self, host: Host) -> None:
        """Raise ConfigError if one of them exists."""
        for copy in self._copies:
            if await copy.exists(host):
                problem = f"cannot make {copy.target}: it is there already"
                raise ConfigError(problem, hint="remove it, or take another name")
        host.learnt[self, "vacant"] = True


class Copy(Block):
    """Copy ``old`` to ``new`` on the server; ``data`` is the mount that shows how to reach it."""

    fstype = "clone"

    def __init__(self, name: str, old: str, new: str, data: Mount, plan: Plan) -> None:
        """Take the directories, and the rest from the plan of the new jail."""
        super().__init__(f"copy of {name}", old)
        self._kind, self._data = name, data
        self.config, self.environment = plan.config, plan.environment
        command, self._undo = self.config[nfs.CLONE_COMMAND], self.config[nfs.CLONE_UNDO_COMMAND]
        self._command, self._places = command or (), {"{old}": old, "{new}": new}
        self.target = f"{self.config[nfs.NFS_SERVER]}:{new}"

    def _filled(self, words: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._places.get(word, word) for word in words)

    async def _run(self, host: Host, words: Sequence[str]) -> Result:
        """Run one of the configured commands; the time it takes does not count for TIMEOUT."""
        timeout, deadline = self.config[nfs.CLONE_TIMEOUT], host.deadline
        began, end, limit = deadline.elapsed(), deadline.end, deadline.limit
        deadline.end = deadline.limit = end + timeout
        try:
            return await host.run(self._filled(words), timeout=timeout, keep_locks=True)
        finally:
            spent = deadline.elapsed() - began
            deadline.end, deadline.limit = end + spent, limit + spent

    async def exists(self, host: Host) -> bool:
        """Tell whether the server has it, by a mount where only root can look, which is undone."""
        spec = MountSpec(
            "look",
            "nfs",
            self._data.options,
            self.target,
            f"{staging.DIR}/clones/{file_name(self.environment)}.{self._kind}",
            self.config[nfs.NFS_MOUNT_TIMEOUT],
            private=staging.PARENT,
        )
        look = Mount(spec, self.environment, self.config)
        # What a run that was killed has left there.
        await look.discard(host)
        try:
            await look.start(host)
        except NotOnServerError:
            # A file of that name exists all the same, and CLONE_UNDO_COMMAND would remove it.
            if not os.path.isdir(look.point):
                raise
            return False
        await look.discard(host)
        if (self, "made") in host.learnt:
            # It was for this question alone.
            await host.call_with_timeout(
                filesystem.remove_empty, [look.point], timeout=self.config[common.PROBE_TIMEOUT]
            )
        return True

    async def inspect(self, host: Host) -> Observation:
        """Return whether this run has made it, and the server shows it."""
        if (self, "made") not in host.learnt:
            return Observation(NOT_READY, problem=NotFoundError(f"cannot find {self.target}: it is not made yet"))
        if await self.exists(host):
            return Observation(READY)
        said = f"{self._command[0]} said that it is done"
        error = EnvstartError(f"cannot find {self.target}: {said}", hint="look at CLONE_COMMAND")
        return Observation(NOT_READY, problem=error)

    async def commands(self, host: Host, verb: str) -> Sequence[tuple[str, ...]]:
        """Return the command that copies."""
        return [self._filled(self._command)] if verb == "start" else []

    async def start(self, host: Host) -> None:
        """Run the command that copies; EnvstartError."""
        words = self._command
        host.on_failure(lambda: self._undo_start(host))
        result = await self._run(host, words)
        failure = f"cannot copy {self.source} to {self.target}: {words[0]}"
        if result.status is None:
            raise TemporaryError(f"{failure}: {result.words}; on the server it may go on", hint="raise CLONE_TIMEOUT")
        if result.status != 0:
            raise EnvstartError(f"{failure}: {result.words}", hint="try the command by hand: -v shows it")
        host.learnt[self, "made"] = True

    async def _undo_start(self, host: Host) -> None:
        """Remove the new directory, which did not exist before this run."""
        if self._undo is None:
            host.report.warn(f"{self.target} stays as far as it was made: remove it, or set CLONE_UNDO_COMMAND")
            return
        result = await self._run(host, self._undo)
        if result.status != 0:
            failure = f"cannot remove {self.target}: {self._undo[0]}: {result.words}"
            raise EnvstartError(failure, hint="remove it on the server")
