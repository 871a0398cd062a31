"""Read a configuration for a stop: a mistake that does not concern this jail or VM must not keep it mounted.

Left out are sections of others, unknown keys, and behaviour (common.py) that cannot be read. What is left is read
as strictly as for a start, so that nothing is guessed about what is mounted where.
"""

from __future__ import annotations

from collections.abc import Mapping

from envstart.config import common, remedies, shell
from envstart.config import load as config
from envstart.config.load import Config
from envstart.config.schema import Options
from envstart.errors import ConfigError
from envstart.system.log import Report


def load(
    backend: str, options: Options, name: str, path: str, *, recorded: Mapping[str, str], report: Report
) -> Config:
    """Read the configuration for a stop of ``name``, and warn of what was left out; ConfigError, PermissionDeniedError.

    ``recorded`` has the texts of keys as they were when it was started.
    """
    reading = shell.read(config.trusted_text(path))
    if reading.torn or reading.used & reading.broken:
        raise config.mistakes(path, reading.problems, ("-c", path, backend))
    kept, ignored = _relevant(reading, options, name, recorded)
    settings = config.from_reading(backend, options, name, path, kept)
    if ignored:
        line, text = min(ignored)
        more = f", and {len(ignored) - 1} more" if ignored[1:] else ""
        check = remedies.known("config check", ("-c", path, backend))
        report.warn(f"{path}:{line}: {text}{more}; it does not concern this stop; see: {check}")
    return settings


def _relevant(
    reading: shell.Reading, options: Options, name: str, recorded: Mapping[str, str]
) -> tuple[shell.Reading, list[tuple[int, str]]]:
    """Return what concerns the jail or VM ``name``, and the mistakes that do not."""
    by_name = {option.name: option for option in options}
    kept, ignored = shell.Reading(), []
    kept.used = reading.used
    for assignment in reading.assignments:
        option = by_name.get(assignment.key)
        ours = config.applies(assignment.section, name)
        problem = ""
        if option is None:
            problem = "" if assignment.key in reading.used else f"has the unknown key {shell.shorten(assignment.key)}"
        else:
            try:
                option.read(assignment.value, config.ANY)
            except ValueError as error:
                problem = f"{option.name}={shell.shorten(assignment.value)!r} {error}"
        if problem and "\n" in assignment.value:
            # A quote is missing, and the value has swallowed other lines.
            raise ConfigError(f"cannot use the configuration: line {assignment.line} {problem}")
        if problem and not (ours and option is not None and option.name not in common.NAMES):
            ignored.append((assignment.line, problem))
            if ours and assignment.key in recorded:
                kept.assignments.append(shell.Assignment(None, assignment.key, recorded[assignment.key], 0))
        elif ours:
            kept.assignments.append(assignment)
    unset = {key for section, key in reading.unset if config.applies(section, name)}
    if (unset & by_name.keys()) - common.NAMES:
        kept.problems = reading.problems
        kept.broken = reading.broken
    else:
        ignored += reading.problems
    return kept, ignored
