"""Print records and what several verbs print: for people, as JSON, and as monitoring systems and cron want it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from envstart import __version__
from envstart.cbsd.monitored import Record
from envstart.engine import plan as plans
from envstart.errors import EnvstartError, reason
from envstart.system.files import atomic_write
from envstart.system.log import Report, printable, tell

# What is said where there is nothing to show.
NOTHING = "no jail or VM uses an envstart hook"
# Exit statuses of monitoring plugins, the worst first: unknown is less than what is known to be wrong.
SEVERITY = {"critical": 2, "unknown": 3, "warning": 1, "ok": 0}
_COLOURS = {"critical": "31;1", "unknown": "35", "warning": "33", "ok": "32"}
_COLUMNS = ("directory", "state", "source", "point")
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def document(report: Report, **values: Any) -> None:
    """Print one JSON document: ``values``, and what every document has."""
    head = {
        "version": __version__,
        "host": os.uname().nodename,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    tell(json.dumps({**head, **values, "warnings": report.warnings}, indent=2) + "\n")


def unknown(report: Report, reason: str, *, for_nagios: bool, for_json: bool) -> None:
    """Print that a check has come to nothing, where its form has a place for that."""
    if for_nagios:
        tell(f"ENVSTART UNKNOWN - {_without_bar(printable(reason))}\n")
    elif for_json:
        document(report, level="unknown", reason=reason, directories=[])


def worst(records: Sequence[Record]) -> str:
    """Return the worst level among them; ok if there are none."""
    levels = {record["level"] for record in records}
    return next((level for level in SEVERITY if level in levels), "ok")


def count(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def problems(records: Sequence[Record]) -> str:
    """Return a line for each record that reports a problem, the worst first."""
    order = list(SEVERITY)
    bad = sorted((record for record in records if record["level"] != "ok"), key=lambda one: order.index(one["level"]))
    keys = ("environment", "directory", "source", "state", "found")
    return "".join(
        f"{coloured(record['level'], record['level'].upper())}: "
        f"{printable(': '.join(record[key] for key in keys if record[key]))}\n"
        for record in bad
    )


def coloured(level: str, text: str) -> str:
    """Return the text in colour on a terminal, unless NO_COLOR, or CBSD's own NOCOLOR, forbids that."""
    if not os.isatty(1) or os.environ.get("NO_COLOR") or os.environ.get("NOCOLOR"):
        return text
    return f"\033[{_COLOURS[level]}m{text}\033[0m"


def table(records: Sequence[Record]) -> list[str]:
    """Return an aligned line for each record: directory, state, source, mount point, and what is wrong."""
    rows = [
        (*(record[key] for key in _COLUMNS), "" if record["state"] == plans.MOUNTED else record["found"])
        for record in records
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [printable("  ".join(map(str.ljust, row, widths)).rstrip()) for row in rows]


def nagios(records: Sequence[Record], seconds: float, summary: str) -> str:
    """Return a status line with performance data, and the problems, as the monitoring plugins' guidelines want it.

    ``summary``: the jails and VMs in words, to which the mounts and devices are added.
    """
    devices = sum(bool(record["directory"] and not record["point"]) for record in records)
    things = [summary, count(sum(bool(record["directory"] and record["point"]) for record in records), "mount")]
    things += [count(devices, "device")] if devices else []
    number = {level: sum(record["level"] == level for record in records) for level in SEVERITY}
    told = ", ".join(f"{number[level]} {level}" for level in SEVERITY if number[level] and level != "ok")
    text = f"{worst(records).upper()} - {told}{': ' if told else ''}{', '.join(things)}"
    data = [f"{level}={number[level]};;;0;{len(records)}" for level in SEVERITY]
    return f"ENVSTART {text} | {' '.join(data)} time={seconds:.3f}s;;;0\n" + _without_bar(problems(records))


def _without_bar(text: str) -> str:
    """Return a text without the bar, which begins the performance data of a plugin, wherever it is."""
    return text.replace("|", "/")


def prometheus(records: Sequence[Record], seconds: float) -> str:
    """Return the text format of Prometheus, for node_exporter's textfile collector: no time stamps."""
    labels = ("workdir", "environment", "backend", "directory", "point")
    well: dict[str, int] = {}
    for record in records:
        series = ",".join(f'{label}="{str(record[label]).translate(_ESCAPED)}"' for label in labels)
        well.setdefault(series, int(record["level"] == "ok"))
    number = {level: sum(record["level"] == level for record in records) for level in SEVERITY}
    rows = [
        "# HELP envstart_well Whether a directory or device of a jail or VM is as it should be.",
        "# TYPE envstart_well gauge",
        *(f"envstart_well{{{series}}} {value}" for series, value in well.items()),
        "# HELP envstart_problems Directories and devices by level.",
        "# TYPE envstart_problems gauge",
        *(f'envstart_problems{{level="{level}"}} {number[level]}' for level in SEVERITY),
        "# HELP envstart_check_seconds Seconds that the check took.",
        "# TYPE envstart_check_seconds gauge",
        f"envstart_check_seconds {seconds:.3f}",
    ]
    return "\n".join(rows) + "\n"


def no_answer(reason: str) -> Record:
    """Return the record of a check that has come to nothing."""
    keys = ("workdir", "environment", "backend", "directory", "point", "source", "fstype")
    return {**dict.fromkeys(keys, ""), "state": "unknown", "found": reason, "level": "unknown"}


def replace(path: str, text: str) -> None:
    """Replace a file, so that nobody ever reads a part of it; EnvstartError."""
    try:
        atomic_write(path, text.encode("utf-8", "backslashreplace"), mode=0o644, shared=True)
    except OSError as error:
        raise EnvstartError(f"cannot write {path}: {reason(error)}") from None


def changed(path: str, records: Sequence[Record]) -> bool:
    """Tell whether the problems differ from those of the last time; they are kept for the next."""
    # Without what changes at each look (ages, process numbers).
    keys = ("level", "workdir", "environment", "directory", "point", "state")
    rows = ("\t".join(str(record[key]) for key in keys) for record in records if record["level"] != "ok")
    now = "".join(f"{row}\n" for row in sorted(rows))
    try:
        with open(path, encoding="utf-8") as file:
            before = file.read()
    except OSError:
        # Never noted: all is well, as far as anybody was told.
        before = ""
    if before == now:
        return False
    replace(path, now)
    return True
