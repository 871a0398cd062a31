"""Tell what a check has seen as monitoring systems and cron want it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from envstart.cbsd.monitored import Record
from envstart.cli.output import SEVERITY
from envstart.errors import EnvstartError, reason
from envstart.system.files import atomic_write

_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def worst(records: Sequence[Record]) -> str:
    """Return the worst level among them; ok if there are none."""
    levels = {record["level"] for record in records}
    return next((level for level in SEVERITY if level in levels), "ok")


def things(records: Sequence[Record]) -> str:
    """Count the mounts and devices among the records, in words."""
    mounts = sum(bool(record["directory"] and record["point"]) for record in records)
    devices = sum(bool(record["directory"] and not record["point"]) for record in records)
    text = f"{mounts} mount{'' if mounts == 1 else 's'}"
    return f"{text}, {devices} device{'' if devices == 1 else 's'}" if devices else text


def unknown(reason: str) -> Record:
    """Return the record of a check that has come to nothing."""
    keys = ("workdir", "environment", "backend", "directory", "point", "source", "fstype")
    return {**dict.fromkeys(keys, ""), "state": "unknown", "found": reason, "level": "unknown"}


def nagios(records: Sequence[Record], lines: str, seconds: float, summary: str = "") -> str:
    """Return a status line with performance data, and ``lines``, as the monitoring plugins' guidelines want it."""
    count = {level: sum(record["level"] == level for record in records) for level in SEVERITY}
    told = [f"{count[level]} {level}" for level in SEVERITY if count[level] and level != "ok"]
    text = ": ".join([*([", ".join(told)] if told else []), summary or things(records)])
    data = [f"{level}={count[level]};;;0;{len(records)}" for level in SEVERITY]
    # A bar begins the performance data, wherever it is.
    return f"ENVSTART {worst(records).upper()} - {text} | {' '.join(data)} time={seconds:.3f}s;;;0\n" + lines.replace(
        "|", "/"
    )


def prometheus(records: Sequence[Record], seconds: float) -> str:
    """Return the text format of Prometheus, for node_exporter's textfile collector: no time stamps."""
    rows = [
        "# HELP envstart_well Whether a directory or device of a jail or VM is as it should be.",
        "# TYPE envstart_well gauge",
    ]
    labels = ("workdir", "environment", "backend", "directory", "point")
    seen: set[str] = set()
    for record in records:
        series = ",".join(f'{label}="{str(record[label]).translate(_ESCAPED)}"' for label in labels)
        if series not in seen:
            seen.add(series)
            rows.append(f"envstart_well{{{series}}} {int(record['level'] == 'ok')}")
    rows += ["# HELP envstart_problems Directories and devices by level.", "# TYPE envstart_problems gauge"]
    for level in SEVERITY:
        rows.append(f'envstart_problems{{level="{level}"}} {sum(record["level"] == level for record in records)}')
    rows += [
        "# HELP envstart_check_seconds Seconds that the check took.",
        "# TYPE envstart_check_seconds gauge",
        f"envstart_check_seconds {seconds:.3f}",
    ]
    return "\n".join(rows) + "\n"


def replace(path: str, text: str) -> None:
    """Replace a file, so that nobody ever reads a part of it; EnvstartError."""
    try:
        atomic_write(path, text.encode("utf-8", "backslashreplace"), mode=0o644, shared=True)
    except OSError as error:
        raise EnvstartError(f"cannot write {path}: {reason(error)}") from None


def fingerprint(records: Iterable[Record]) -> str:
    """Return the problems without what changes at each look (ages, process numbers)."""
    keys = ("level", "workdir", "environment", "directory", "point", "state")
    rows = ("\t".join(str(record[key]) for key in keys) for record in records if record["level"] != "ok")
    return "".join(f"{row}\n" for row in sorted(rows))


def changed(path: str, records: Sequence[Record]) -> bool:
    """Tell whether that differs from what it was the last time; it is kept for the next."""
    now = fingerprint(records)
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == now:
                return False
    except OSError:
        # Never noted: all is well, as far as anybody was told.
        if not now:
            return False
    replace(path, now)
    return True
