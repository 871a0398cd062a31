"""Print what several verbs print: a JSON document, problems, a table, colours."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from envstart import __version__
from envstart.cbsd.monitored import Record
from envstart.engine import plan as plans
from envstart.system.log import Report, printable, tell

# What is said where there is nothing to show.
NOTHING = "no jail or VM uses an envstart hook"
_COLUMNS = ("directory", "state", "source", "point")


def document(report: Report, **values: Any) -> None:
    """Print one JSON document: ``values``, and what every document has."""
    head = {
        "version": __version__,
        "host": os.uname().nodename,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    tell(json.dumps({**head, **values, "warnings": report.warnings}, indent=2) + "\n")


# Exit statuses of monitoring plugins, the worst first: unknown is less than what is known to be wrong.
SEVERITY = {"critical": 2, "unknown": 3, "warning": 1, "ok": 0}


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


_COLOURS = {"critical": "31;1", "unknown": "35", "warning": "33", "ok": "32"}


def coloured(level: str, text: str) -> str:
    """Return the text in colour on a terminal, unless NO_COLOR, or CBSD's own NOCOLOR, forbids that."""
    if not os.isatty(1) or os.environ.get("NO_COLOR") or os.environ.get("NOCOLOR"):
        return text
    return f"\033[{_COLOURS[level]}m{text}\033[0m"


def table(records: Sequence[Record]) -> list[str]:
    """Return an aligned line for each record: directory, state, source, mount point, and what is wrong."""
    rows = [(*(str(record[key]) for key in _COLUMNS), _detail(record)) for record in records]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _detail(record: Record) -> str:
    return "" if record["state"] == plans.MOUNTED else record["found"]
