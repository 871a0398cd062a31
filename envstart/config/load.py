"""Find, trust, read and check the configuration of a backend for a jail or VM, with every mistake at once."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from envstart.config import places, remedies, shell
from envstart.config.schema import Option, Options, fill
from envstart.errors import ConfigError, EnvstartError, PermissionDeniedError, reason
from envstart.system.probe import open_regular

_T = TypeVar("_T")
# In place of an environment's name, where a value is read for none.
ANY = "x"
_SIZE_MAX = 1 << 20
# What was read last, by its text.
_readings: dict[str, shell.Reading] = {}
# More than these are counted, but not shown: somebody gave a file of another kind.
_SHOWN_MAX = 50


class Config:
    """Values by key, parsed, with the defaults in; ``origin(key)`` says where each came from.

    ``notes`` are lines for plan and doctor: what is allowed, but was perhaps not meant. ``inputs``: what a plan takes
    from elsewhere on the host, read before it is made (see registry.make_plan).
    """

    def __init__(
        self,
        path: str | None,
        values: dict[str, Any],
        texts: dict[str, str],
        origins: dict[str, str],
        notes: Sequence[str] = (),
        inputs: Mapping[str, str] | None = None,
    ) -> None:
        """Take what load() has read."""
        self.path = path
        self.notes = tuple(notes)
        self.inputs: Mapping[str, str] = inputs or {}
        self._values, self._texts, self._origins = values, texts, origins

    def __getitem__(self, option: Option[_T]) -> _T:
        """Return the value of an option of the backend."""
        value: _T = self._values[option.name]
        return value

    def value(self, key: str) -> Any:
        """Return the value of a key by its name, for who reads keys of any backend."""
        return self._values[key]

    def replace(self, **values: Any) -> Config:
        """Return the same with other values."""
        return Config(self.path, {**self._values, **values}, self._texts, self._origins, self.notes, self.inputs)

    def with_inputs(self, inputs: Mapping[str, str]) -> Config:
        """Return the same configuration with these inputs."""
        return Config(self.path, self._values, self._texts, self._origins, self.notes, inputs)

    def relocated(self, key: str, directory: str) -> Config:
        """Return the same configuration with another directory as the value of a key that the file does not set."""
        values, texts = {**self._values, key: directory}, {**self._texts, key: directory}
        return Config(self.path, values, texts, self._origins, self.notes)

    def origin(self, key: str) -> str:
        """Return ``FILE:LINE`` with its section, or ``default``."""
        return self._origins.get(key, "default")

    def text(self, key: str) -> str:
        """Return the value as it is written, or the default's text."""
        return self._texts[key]

    def __iter__(self) -> Iterator[str]:
        """Return all keys of the backend, in the order of its rows."""
        return iter(self._values)


def find(backend: str, workdir: str | None, explicit: str | None = None) -> str | None:
    """Return the file to read, or None; one that is there but cannot be read is returned, and load() says why."""
    if explicit is not None:
        return explicit
    return next(filter(os.path.lexists, places.candidates(backend, workdir)), None)


def load(backend: str, options: Options, name: str, path: str | None, workdir: str | None) -> Config:
    """Read the configuration of ``backend`` for ``name``; ConfigError with every mistake, PermissionDeniedError."""
    if path is None and any(option.default is None for option in options):
        paths = places.candidates(backend, workdir)
        raise ConfigError(
            f"cannot find env_start_{backend}.conf in {', '.join(map(os.path.dirname, paths))}",
            hint=f"write one: {remedies.known('config sample', [backend])} > {shlex.quote(paths[0])}",
        )
    reading = _reading(trusted_text(path)) if path is not None else shell.Reading()
    return from_reading(backend, options, name, path, reading)


def _reading(text: str) -> shell.Reading:
    """Read a configuration; a thousand jails have the same one, which is then read once."""
    if text not in _readings:
        _readings.clear()
        _readings[text] = shell.read(text)
    return _readings[text]


def from_reading(backend: str, options: Options, name: str, path: str | None, reading: shell.Reading) -> Config:
    """Make the configuration for ``name`` of what was read from ``path``; ConfigError with every mistake."""
    chosen, problems, notes = _chosen(options, name, path, reading)
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    origins: dict[str, str] = {}
    readable = not problems
    for option in options:
        source = chosen.get(option.name)
        line, text = (source.line, source.value or option.default) if source else (0, option.default)
        if source and source.value:
            origins[option.name] = f"{path}:{line}" + (f" [{source.section}]" if source.section else "")
        if text is None:
            if source or option.name not in reading.broken:
                problems.append((line, f"{option.name} is {'empty' if source else 'not set'}: {option.help}"))
        elif readable:
            texts[option.name] = text
            try:
                values[option.name] = option.read(text, name)
            except ValueError as error:
                # It was good for another name.
                value = shell.shorten(fill(text, name))
                problems.append((line, f"{option.name}={value!r} {error}; name it in a section [NAME]"))
    if problems:
        raise mistakes(path, problems, ("-c", path or "", backend))
    return Config(path, values, texts, origins, notes)


def _chosen(
    options: Options, name: str, path: str | None, reading: shell.Reading
) -> tuple[dict[str, shell.Assignment], list[tuple[int, str]], list[str]]:
    """Return the assignments that count for ``name``, every mistake that was read, and what was perhaps not meant."""
    by_name = {option.name: option for option in options}
    chosen: dict[str, shell.Assignment] = {}
    problems, notes = list(reading.problems), []
    seen: set[tuple[str | None, str]] = set()
    for assignment in reading.assignments:
        option = by_name.get(assignment.key)
        if option is None:
            if assignment.key not in reading.used:
                near = _nearest(assignment.key, by_name) if len(problems) < _SHOWN_MAX else ""
                problems.append((assignment.line, f"has the unknown key {shell.shorten(assignment.key)}{near}"))
            continue
        if (assignment.section, assignment.key) in seen and assignment.key not in reading.used:
            notes.append(f"{path}:{assignment.line}: {assignment.key} is set again; the last one counts")
        seen.add((assignment.section, assignment.key))
        try:
            # Every value is read, so that a mistake in another jail's section is told before its start.
            option.read(assignment.value, ANY)
        except ValueError as error:
            problems.append((assignment.line, f"{option.name}={shell.shorten(assignment.value)!r} {error}"))
        if applies(assignment.section, name):
            chosen[assignment.key] = assignment
    return chosen, problems, notes


def examples(path: str, options: Options) -> dict[str, str]:
    """Return names that between them see all of a file, and what each stands for.

    Those are every section, and those of no section, unless a key that they need is set in sections alone.
    """
    assignments = shell.read(trusted_text(path)).assignments
    names: dict[str, str] = {}
    for section in filter(None, (assignment.section for assignment in assignments)):
        name = section.replace("*", ANY).replace("?", ANY)
        names.setdefault(name, section if name == section else f"[{section}] (as {name})")
    general = {assignment.key for assignment in assignments if assignment.section is None and assignment.value}
    if not names or general.issuperset(option.name for option in options if option.default is None):
        names.setdefault("any", "any other" if names else "any")
    return names


def mistakes(path: str | None, problems: list[tuple[int, str]], checked: Sequence[str]) -> EnvstartError:
    """Return one error: each mistake on a line of its own, and the first again in the last line.

    ``checked``: the arguments of ``envstart config check`` that show them.
    """
    # What is not set comes last: it can be no more than what a mistake above led to.
    ordered = sorted(problems, key=lambda problem: (problem[0] == 0, problem[0]))
    lines = [f"{path}:{line}: {text}" if line else f"{path}: {text}" for line, text in ordered[:_SHOWN_MAX]]
    if len(problems) > _SHOWN_MAX:
        lines.append(f"{path}: ... and {len(problems) - _SHOWN_MAX} more")
    count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes, the first"
    return ConfigError(
        f"cannot use the configuration: {count}: {lines[0]}",
        hint=f"correct it and try: {remedies.known('config check', checked)}",
        details=tuple(lines) if len(lines) > 1 else (),
    )


def applies(section: str | None, name: str) -> bool:
    """Tell whether a section is one of the environment ``name``; None is what precedes all sections."""
    if section is None or section == name:
        return True
    if "*" not in section and "?" not in section:
        return False
    import fnmatch

    return fnmatch.fnmatchcase(name, section)


def _nearest(key: str, keys: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key.upper(), keys, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _cbsd() -> tuple[int, int]:
    """Return the user and the group that CBSD has made for itself; -1, which no file has, where there are none."""
    import pwd

    try:
        account = pwd.getpwnam("cbsd")
    except KeyError:
        return -1, -1
    return account.pw_uid, account.pw_gid


def trusted_text(path: str) -> str:
    """Return the text of a file that only root, or the caller, can have written (docs/faults.md, 98).

    CBSD's own user and group are root's equals (docs/cbsd.md#owners): what CBSD makes in its workdir is theirs, and its
    umask lets the group write. Checked on the descriptor that is read, so that nothing can be swapped in between.
    """
    try:
        with open(open_regular(path, follow=True), "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()) and status.st_uid != _cbsd()[0]:
                remedy = shlex.join(("chown", "root", path))
                raise PermissionDeniedError(f"cannot trust {path}: it belongs to user {status.st_uid}", hint=remedy)
            writable = status.st_mode & 0o022
            if writable and (writable != stat.S_IWGRP or status.st_gid != _cbsd()[1]):
                raise PermissionDeniedError(
                    f"cannot trust {path}: others can write it", hint=shlex.join(("chmod", "go-w", path))
                )
            content = file.read(_SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from None
    if len(content) > _SIZE_MAX:
        raise ConfigError(f"cannot use {path}: it has more than {_SIZE_MAX} bytes")
    # The inverse of what the system calls do with a path, so that every byte of it arrives as it was written.
    return os.fsdecode(content)
