"""A host without a machine, for the parts of block steps that only think: commands have their answers by heart."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from sim import transcript

from envstart.config import load
from envstart.config.load import Config
from envstart.engine import registry
from envstart.engine.plan import Plan
from envstart.environment import Environment, in_workdir
from envstart.errors import UNREADABLE, TemporaryError, unreadable
from envstart.mounts.table import Entry, Table
from envstart.system import loop, progress
from envstart.system.command import Result
from envstart.system.host import Host
from envstart.system.probe import ProbeResult
from envstart.system.scheduler import Deadline

_T = TypeVar("_T")

TRANSCRIPTS = Path(__file__).resolve().parents[1] / "transcripts"
UUID = "2c4b9a1e-0000-11f0-8000-525400123456"
WORKDIR = "/usr/jails"
# What each backend cannot do without.
NEEDED: dict[str, dict[str, str]] = {
    "nfs": {"NFS_SERVER": "nas"},
    "gluster": {"GLUSTER_SERVER": "gfs1", "GLUSTER_VOLUME": "gv0"},
    "ceph": {"CEPH_USER": "host1"},
    "rbd": {"RBD_IMAGE": "rbd/{name}", "CEPH_USER": "host1"},
    "iscsi": {"ISCSI_PORTAL": "10.0.0.1", "ISCSI_TARGET": "iqn.2012-06.com.example:x"},
    "hast": {"HAST_RESOURCE": "{name}"},
    "geli": {"GELI_PROVIDER": "/dev/gpt/{name}", "GELI_KEYFILE": "/k"},
    "nullfs": {"NULLFS_ROOT_DIR": "/z"},
}


def answer(out: str = "", err: str = "", status: int = 0) -> Result:
    """How a command ended that had this to say."""
    return Result(status, out, err, 0.1, alive=False)


class Stub:
    """Of Host only what a step needs to find out what there is; a command without an answer is a mistake."""

    platform = "freebsd"
    takeover = False
    rehearsing = False

    def __init__(self, answers: Mapping[str, str | Result] | None = None, mounts: Sequence[Entry] = ()) -> None:
        self.answers = {"sysctl -n kern.hostuuid": f"{UUID}\n", **(answers or {})}
        self.called: list[str] = []
        self.warnings: list[str] = []
        self.unresponsive: set[str] = set()
        self.looked: dict[str, ProbeResult] = {}
        self.learnt: dict[tuple[object, str], Any] = {}
        self.undos: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.deadline = Deadline()
        self.report = self
        self._table = Table([Entry("/dev/ada0p2", "/", "ufs"), *mounts])
        self._kept: dict[tuple[str, ...], Any] = {}
        # Whether the mount table is asked from mount(8), after which Host forgets what it knows.
        self.forgets = False
        # What the mount table is after the next time that all is forgotten.
        self.later: Table | None = None

    @property
    def host(self) -> Host:
        """It, for those who ask for the real one."""
        return cast(Host, self)

    def trace(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def waiting(self, what: str, until: float | None = None, since: float | None = None) -> progress.Waiting:
        return progress.Waiting([], what, 0.0, 0.0)

    def invalidate(self) -> None:
        self._kept.clear()
        self._table, self.later = self.later or self._table, None

    def on_failure(self, undo: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.undos.append(undo)

    async def mounts(self) -> Table:
        if self.forgets:
            self.invalidate()
        return self._table

    async def real(self, path: str) -> str:
        return path

    async def stack(self, path: str) -> list[Entry]:
        return (await self.mounts()).at(path)

    async def run(self, argv: Sequence[str], **_: object) -> Result:
        line = " ".join(argv)
        self.called.append(line)
        found = self.answers[line]
        return found if isinstance(found, Result) else answer(found)

    async def ask(self, argv: Sequence[str], parse: Callable[[Result], Any], **_: object) -> Any:
        key = tuple(argv)
        if key not in self._kept:
            try:
                self._kept[key] = parse(await self.run(argv))
            except UNREADABLE as error:
                raise TemporaryError(f"cannot tell what {argv[0]} knows: {unreadable(error)}") from None
        return self._kept[key]

    async def call_with_timeout(self, function: Callable[..., _T], *arguments: Any, timeout: float) -> _T:
        return function(*arguments)


def linux(**answers: str) -> Stub:
    """Return a host of the other platform."""
    stub = Stub(answers)
    stub.platform = "linux"
    return stub


def done(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of something that waits for nothing."""
    result: _T = loop.gather([coroutine])[0]
    return result


def jail(name: str = "env1") -> Environment:
    return in_workdir(name, WORKDIR)


def configured(path: Path, backend: str, name: str = "env1", **keys: str) -> Config:
    """Return the configuration of a backend, read from a file in the directory ``path``."""
    file = path / f"env_start_{backend}.conf"
    file.write_text("".join(f'{key}="{value}"\n' for key, value in keys.items()))
    file.chmod(0o644)
    return load.load(backend, registry.backend(backend).OPTIONS, name, str(file), WORKDIR)


def planned(path: Path, backend: str, name: str = "env1", **keys: str) -> Plan:
    """Return the plan of the environment ``name``, whose configuration has these keys."""
    return registry.make_plan(backend, jail(name), configured(path, backend, name, **keys))


def outputs(name: str, words: str) -> list[str]:
    """Return what the blocks of a transcript printed whose command has these words."""
    blocks = [block for block in transcript.read(TRANSCRIPTS / f"{name}.txt") if words in block.command]
    assert blocks, words
    return ["\n".join(block.output) + "\n" for block in blocks]
