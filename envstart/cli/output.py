"""Plan and status as text and as plain values for JSON."""

from __future__ import annotations

import os
import time

from envstart import __version__
from envstart.config import remedies
from envstart.engine import plan as plans
from envstart.system.log import printable, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from envstart.cbsd.inventory import Found
    from envstart.system.log import Report

    Record = dict[str, Any]


# What is said where there is nothing to show.
NOTHING = "no jail or VM uses an envstart hook"


def document(report: Report, **values: Any) -> None:
    """Print one JSON document: ``values``, and what every document has."""
    import json

    head = {
        "version": __version__,
        "host": os.uname().nodename,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    tell(json.dumps({**head, **values, "warnings": report.warnings}, indent=2) + "\n")


# Exit statuses of monitoring plugins, the worst first: unknown is less than what is known to be wrong.
SEVERITY = {"critical": 2, "unknown": 3, "warning": 1, "ok": 0}


def problems(records: Sequence[Record]) -> str:
    """A line for each record that is not well, the worst first; nothing if all is."""
    order = list(SEVERITY)
    bad = sorted((record for record in records if record["level"] != "ok"), key=lambda one: order.index(one["level"]))
    keys = ("environment", "directory", "source", "state", "found")
    return "".join(
        f"{_coloured(record['level'], record['level'].upper())}: "
        f"{printable(': '.join(record[key] for key in keys if record[key]))}\n"
        for record in bad
    )


_COLOURS = {"critical": "31;1", "unknown": "35", "warning": "33", "ok": "32"}


def _coloured(level: str, text: str) -> str:
    """In colour on a terminal, unless somebody does not want that (NO_COLOR, and CBSD's own NOCOLOR)."""
    if not os.isatty(1) or os.environ.get("NO_COLOR") or os.environ.get("NOCOLOR"):
        return text
    return f"\033[{_COLOURS[level]}m{text}\033[0m"


class Group:
    """An environment (None: mounts of environments that are no more) and the records of its steps. ``lacking``: where
    the links are not by which CBSD would stop it. ``active``: it runs, or may be about to."""

    def __init__(
        self, found: Found | None, records: Sequence[Record], lacking: Sequence[str] = (), *, active: bool = False
    ) -> None:
        self.found = found
        self.records = list(records)
        self.lacking = list(lacking)
        self.active = active

    @property
    def running(self) -> bool:
        """Whether the environment runs."""
        return self.found is not None and self.found.running

    @property
    def well(self) -> bool:
        """All is there while it runs, and nothing is when it does not."""
        return all(record["level"] in (("ok", "warning") if self.active else ("ok",)) for record in self.records)

    def plain(self) -> Record:
        """For JSON; the keys are stable."""
        found = self.found
        return {
            "environment": found.name if found else "",
            "workdir": found.workdir if found else "",
            "emulator": found.emulator if found else "",
            "backend": found.backend if found else "",
            "registered": bool(found and found.registered),
            "running": self.running,
            "well": self.well,
            "links_lacking": self.lacking,
            "directories": self.records,
        }


def overview(groups: Sequence[Group]) -> str:
    """Environments with their directories, those that are not well first."""
    rows = []
    widths = {key: max((len(str(row[key])) for group in groups for row in group.records), default=0) for key in _SHOWN}
    for group in sorted(groups, key=lambda one: (one.well, one.found.name if one.found else "")):
        found = group.found
        word = "running" if group.running else "not running" if found and found.registered else "not registered"
        word += ", was started a moment ago" if group.active and not group.running else ""
        kind = f"{found.emulator}, {found.backend or 'no hook of ours'}" if found else ""
        heading = f"{found.name} ({kind}): {word}" if found else "not known to CBSD"
        if group.lacking:
            install = remedies.known("install", [found.name], [found.workdir]) if found else ""
            heading += f"; warning: storage is not unmounted on stop: {install}".rstrip(": ")
        rows.append(_coloured("ok" if group.well else "critical", heading))
        for row in group.records:
            words = "  ".join(str(row[key]).ljust(widths[key]) for key in _SHOWN)
            rest = f"  {row['found']}" if row["state"] != plans.MOUNTED and row["found"] else ""
            rows.append(printable(f"  {words}{rest}".rstrip()))
    return "".join(f"{row}\n" for row in rows)


_SHOWN = ("directory", "state", "source", "point")


def status(records: Sequence[Record]) -> str:
    """The records as an aligned table, what is not mounted first."""
    header = {"directory": "DIRECTORY", "state": "STATE", "source": "SOURCE", "point": "MOUNT POINT", "found": "FOUND"}
    ordered = sorted(records, key=lambda record: record["level"] == "ok")
    shown = [{**record, "found": "" if record["state"] == plans.MOUNTED else record["found"]} for record in ordered]
    table = [header, *shown]
    widths = {key: max(len(str(row[key])) for row in table) for key in header}
    return "".join("  ".join(str(row[key]).ljust(widths[key]) for key in header).rstrip() + "\n" for row in table)
