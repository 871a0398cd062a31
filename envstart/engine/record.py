"""Keep on disk what a start mounts, so that it can be unmounted whatever becomes of the configuration.

One file for each jail or VM, in a directory that only root can write and that a boot leaves alone, in the format of the
configuration itself: sections with ``KEY='value'``. It holds all that a plan is made of, so that the same plan can be
made again; never a secret, only the names of files with one. A stop by it compares each step with the mount table and
the devices before it unmounts anything, as any stop does.
"""

import contextlib
import os
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from envstart.config import shell
from envstart.config.load import Config
from envstart.engine import registry
from envstart.engine.plan import Plan
from envstart.environment import Environment, file_name
from envstart.errors import ConfigError, EnvstartError, reason
from envstart.system import rundir
from envstart.system.files import atomic_write
from envstart.system.log import Report
from envstart.system.probe import open_regular

DIR = "/var/db/envstart"
_SUFFIX = ".record"
_VERSION = "1"
_SIZE_MAX = 1 << 20
_HEADER = "# What envstart has mounted. A stop reads it where the configuration cannot be read. Do not edit it.\n"


class Record(NamedTuple):
    """Record of a start: the backend, the jail or VM, the text of each key, and the inputs of the plan.

    ``defaults`` names the keys that the configuration did not set; ``source`` is the file it was ("": none).
    """

    path: str
    backend: str
    environment: Environment
    source: str
    texts: Mapping[str, str]
    defaults: frozenset[str]
    inputs: Mapping[str, str]

    def _config(self) -> Config:
        """Return the configuration as it was; ConfigError if this version of envstart has no use for it."""
        values, texts = {}, {}
        for option in registry.backend(self.backend).OPTIONS:
            text = self.texts.get(option.name, option.default)
            if text is None:
                raise ConfigError(f"cannot use {self.path}: it has no {option.name}")
            try:
                values[option.name] = option.read(text, self.environment.name)
            except ValueError as error:
                raise ConfigError(f"cannot use {self.path}: {option.name}={shell.shorten(text)!r} {error}") from None
            texts[option.name] = text
        origins = {key: self.path for key in values if key in self.texts and key not in self.defaults}
        return Config(self.source or None, values, texts, origins, (), self.inputs)

    def plan(self, **changes: Any) -> Plan:
        """Make the plan of the start again, with ``changes`` to the values of its keys; ConfigError."""
        return registry.backend(self.backend).plan(self.environment, self._config().replace(**changes))


def path(environment: Environment) -> str:
    """Return the path of the record of a jail or VM."""
    return f"{DIR}/{file_name(environment)}{_SUFFIX}"


def text_of(plan: Plan) -> str:
    """Return the record of a plan."""
    own, config = plan.environment, plan.config
    directories = {"DATA": own.data, "SYSTEM": own.system, "FSTAB": own.fstab or "", "RCCONF": own.rcconf or ""}
    defaults = [key for key in config if config.origin(key) == "default"]
    sections = {
        "environment": {"BACKEND": plan.backend, "NAME": own.name, **directories, "CONFIGURATION": config.path or ""},
        "keys": {key: config.text(key) for key in config},
        "inputs": config.inputs,
        "end": {"DEFAULTS": " ".join(defaults), "VERSION": _VERSION},
    }
    lines = [
        f"[{name}]\n" + "".join(f"{key}={_quoted(value)}\n" for key, value in rows.items())
        for name, rows in sections.items()
    ]
    return _HEADER + "".join(lines)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def save(plan: Plan, report: Report) -> str | None:
    """Write the record of a plan, if it differs, or warn; return what restore() puts back (None: there was none)."""
    name, text = path(plan.environment), text_of(plan)
    before = _text(name)
    try:
        if before != text:
            _write(name, text)
    except OSError as error:
        report.warn(f"cannot write {name}: {reason(error)}; a stop will depend on the configuration")
    return before


def restore(environment: Environment, before: str | None) -> None:
    """Bring back the record that was there ``before`` a start that has failed; None: remove it, as after a stop."""
    # A record that stays is not acted upon when nothing is mounted.
    with contextlib.suppress(OSError):
        if before is None:
            os.unlink(path(environment))
        elif before != _text(path(environment)):
            _write(path(environment), before)


def load(environment: Environment, report: Report) -> Record | None:
    """Read the record of a jail or VM; None if there is none, or, with a warning, if it cannot be used."""
    return parse(environment, read(environment, report), report)


def read(environment: Environment, report: Report) -> str | None:
    """Return the text of the record; None if there is none, or, with a warning, if it cannot be read."""
    name = path(environment)
    if os.geteuid() != 0:
        # Only root can read it, and only root can unmount.
        return None
    try:
        return _trusted(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        report.warn(f"cannot read {name}: {reason(error)}; going on without it")
        return None


def parse(environment: Environment, text: str | None, report: Report) -> Record | None:
    """Return what read() has returned as a record; None, with a warning, if it cannot be used."""
    try:
        return None if text is None else _parsed(path(environment), text)
    except EnvstartError as error:
        report.warn(f"{error}; going on without it")
        return None


def in_workdir(workdir: str, report: Report, *, besides: Collection[str] = ()) -> list[Record]:
    """Read the records of a CBSD workdir except those of the names ``besides``, with a warning for what is unusable."""
    real = os.path.realpath(workdir)
    try:
        names = sorted(name for name in os.listdir(DIR) if name.endswith(_SUFFIX))
    except OSError:
        return []
    # A thousand jails have a record each: the name of its file tells whose it is, unless that was cut.
    names = [name for name in names if name.removesuffix(_SUFFIX).rpartition(".")[0] not in besides]
    records = []
    for name in names:
        try:
            record = _parsed(f"{DIR}/{name}", _trusted(f"{DIR}/{name}"))
        except (EnvstartError, OSError) as error:
            report.warn(f"{reason(error) if isinstance(error, OSError) else error}; going on without {DIR}/{name}")
            continue
        if record.environment.workdir and os.path.realpath(record.environment.workdir) == real:
            records.append(record)
    return records


def _text(name: str) -> str | None:
    """Return what is in the file of a record; None if there is none, or none that can be trusted."""
    try:
        return _trusted(name)
    except OSError:
        return None


def _trusted(name: str) -> str:
    """Return the text of a file that only root can have written. OSError."""
    directory = os.path.dirname(name)
    try:
        rundir.require_private(directory)
    except PermissionError:
        raise PermissionError(1, f"{directory} must be a directory that only root can write") from None
    with open(open_regular(name), "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(1, "it must be a file that only root can write")
        return os.fsdecode(file.read(_SIZE_MAX))


def _parsed(name: str, text: str) -> Record:
    reading = shell.read(text)
    sections: dict[str | None, dict[str, str]] = {}
    for assignment in reading.assignments:
        sections.setdefault(assignment.section, {})[assignment.key] = assignment.value
    own, end = sections.get("environment", {}), sections.get("end", {})
    # The version is written last: what lacks it was cut.
    if reading.problems or end.get("VERSION") != _VERSION or own.get("BACKEND") not in registry.NAMES:
        raise ConfigError(f"cannot use {name}: it is cut, or of another version of envstart")
    try:
        environment = Environment(
            own["NAME"], own["DATA"], own["SYSTEM"], own.get("FSTAB") or None, own.get("RCCONF") or None
        )
    except KeyError as error:
        raise ConfigError(f"cannot use {name}: it has no {error.args[0]}") from None
    return Record(
        name,
        own["BACKEND"],
        environment,
        source=own.get("CONFIGURATION", ""),
        texts=sections.get("keys", {}),
        defaults=frozenset(end.get("DEFAULTS", "").split()),
        inputs=sections.get("inputs", {}),
    )


def _write(name: str, text: str) -> None:
    """Write a file whole or not at all, whenever this process is ended. OSError.

    Not for a power failure, after which nothing is mounted: fsync(2) would make each start wait for the disk.
    """
    directory = os.path.dirname(name)
    os.makedirs(os.path.dirname(directory), mode=0o755, exist_ok=True)
    rundir.make_private(directory)
    atomic_write(name, os.fsencode(text))
