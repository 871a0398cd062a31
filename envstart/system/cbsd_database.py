"""CBSD's database of jails and VMs, local.sqlite: read only, never created (docs/cbsd.md#databases)."""

from __future__ import annotations

import os
import sys
from typing import Any

from envstart.errors import DeadlineExceededError, NoResponseError, UnavailableError, reason
from envstart.system.host import Host

Row = dict[str, Any]

# Seconds that a reading may take: CBSD itself waits 25 s for a lock of its database, a check each minute cannot.
TIMEOUT = 10.0
_BUSY = 5.0
# Columns of the table `jails` that count, with what an older database, which lacks one, is taken to hold.
COLUMNS = {"jname": "", "emulator": "jail", "jid": 0, "status": 0, "path": "", "data": "", "mnt_start": ""}
# Where CBSD keeps what it knows, below a workdir.
DATABASE = "/var/db/local.sqlite"


def is_jail(emulator: str) -> bool:
    """Tell a jail, be it one of another architecture, from a VM."""
    return emulator == "jail" or emulator.endswith("-static")


async def find(host: Host, workdir: str, name: str) -> tuple[Row | None, bool]:
    """Return CBSD's row of a jail or VM, None if it has none, and whether its database could be read."""
    try:
        rows = await host.call_with_timeout(read, workdir, timeout=TIMEOUT)
    except (NoResponseError, DeadlineExceededError, UnavailableError, OSError):
        return None, False
    return next((row for row in rows if row["jname"] == name), None), True


def read(workdir: str) -> list[Row]:
    """Return the rows of CBSD's database, by COLUMNS; PermissionError, UnavailableError. May hang."""
    from urllib.parse import quote

    path = f"{workdir}{DATABASE}"
    try:
        import sqlite3
    except ImportError:
        # FreeBSD's package of Python comes without it (lang/python311: DISABLED_EXTENSIONS).
        package = "py{}{}-sqlite3".format(*sys.version_info)
        failure = f"cannot read {path}: {sys.executable} has no sqlite3"
        raise UnavailableError(failure, hint=f"pkg install {package}") from None
    real = os.path.realpath(path)
    try:
        # sqlite3 does not say why it cannot.
        os.close(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError:
        failure = f"cannot read {path}: there is no such file"
        raise UnavailableError(failure, hint="is this the workdir of CBSD?") from None
    except PermissionError:
        raise
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {reason(error)}") from None
    last = ""
    # Without the right to write beside it, a database with a write-ahead log can only be read as it lies there.
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        try:
            connection = sqlite3.connect(f"file:{quote(os.fsencode(real))}?{mode}", uri=True, timeout=_BUSY)
            try:
                connection.text_factory = os.fsdecode
                return _rows(connection)
            finally:
                connection.close()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            # sqlite3 quotes a damaged database, and cannot decode what it has quoted.
            last = str(error)
            if "readonly" not in last and "unable to open" not in last:
                break
    raise UnavailableError(f"cannot read {path}: {last}")


def _rows(connection: Any) -> list[Row]:
    def columns(table: str) -> set[str]:
        return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}

    present = [name for name in COLUMNS if name in columns("jails")]
    if "jname" not in present:
        raise UnavailableError("cannot read CBSD's database: it has no table of jails")
    # Of a VM the table `bhyve` counts: bset changes it alone (docs/cbsd.md#mnt_start-value).
    machines = {}
    if "mnt_start" in columns("bhyve"):
        machines = dict(connection.execute("SELECT jname, mnt_start FROM bhyve"))
    rows = []
    for row in connection.execute(f"SELECT {', '.join(present)} FROM jails"):
        values = {**COLUMNS, **dict(zip(present, row))}
        if values["emulator"] == "bhyve":
            values["mnt_start"] = machines.get(values["jname"], values["mnt_start"])
        rows.append(clean(values, registered=True))
    return rows


def clean(values: dict[str, Any], *, registered: bool) -> Row:
    """Return texts and numbers, whatever the columns held; CBSD writes 0 for a text that is not set."""
    row: Row = {"registered": registered}
    for name, default in COLUMNS.items():
        value = values[name]
        if isinstance(default, int):
            try:
                row[name] = int(value or 0)
            except (TypeError, ValueError, OverflowError):
                row[name] = 0
        else:
            row[name] = "" if value in (None, 0, "0", "") else str(value)
    row["emulator"] = row["emulator"] or "jail"
    return row
