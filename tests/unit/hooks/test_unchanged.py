"""The short way of a start reads the mount table as the long one does, and knows whatever makes a plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envstart import lifecycle
from envstart.environment import in_workdir
from envstart.hooks import remember, unchanged
from envstart.mounts.table import Entry, Table
from envstart.steps.mount import Mount
from envstart.system.host import Host
from envstart.system.log import Report

POINTS = ("/w/jails-data/j-data", "/w/jails-system/j", "/w/jails-fstab/j")


SOURCES = (
    "s:/nfs/data/j",
    "s:/nfs/system/j",
    "s:/nfs/fstab/j",
    "S:/nfs//data/j/",
    "t:/nfs/data/j",
    "tmpfs",
    "/nfs/data/j",
)


entries = st.builds(
    Entry,
    st.sampled_from(SOURCES),
    st.sampled_from((*POINTS, "/w", "/nfs", "/")),
    st.sampled_from(("nfs", "tmpfs", "nullfs")),
    st.sampled_from(((), ("read-only",))),
)


# In sh(1), as an administrator may have written it.
configurations = st.fixed_dictionaries(
    {"NFS_SERVER": st.sampled_from(("s", "S", '"t"'))},
    optional={
        "NFS_SERVER_ROOT_DIR": st.sampled_from(("/nfs", "'/nfs/'", '"$ROOT"')),
        "MOUNT_NFS_OPT": st.sampled_from(('"-oro"', '"-onosuid -oro"', '"-o rw -onosuid"', "-orw,nosuid")),
        "MOUNT_FSTAB": st.sampled_from(("0", "1")),
        "REQUIRE_DATA": st.sampled_from(('""', "etc", "'etc bin'")),
    },
)


@settings(max_examples=400, deadline=None)
@given(
    configuration=configurations,
    by_section=st.booleans(),
    there=st.lists(st.integers(0, 5), min_size=3, max_size=3),
    more=st.lists(entries, max_size=3),
)
def test_the_table_is_read_in_the_same_way(
    tmp_path_factory: pytest.TempPathFactory,
    configuration: dict[str, str],
    *,
    by_section: bool,
    there: list[int],
    more: list[Entry],
) -> None:
    steps = lifecycle.load(
        "nfs", in_workdir("j", "/w"), _conf(tmp_path_factory, configuration, by_section=by_section)
    ).steps
    options = ("read-only",) if "ro" in configuration.get("MOUNT_NFS_OPT", "") else ()
    wanted = [Entry(step.source, step.point, "nfs", options) for step in steps if isinstance(step, Mount)]
    assert len(wanted) == len(steps)
    rows = [remember.row(step, Table(wanted), linux=False) for step in steps]
    assert None not in rows
    # Most of the wanted ones are there, in any order with the others.
    table = [*(entry for entry, number in zip(wanted, there) if number), *more]
    report = Report("test")
    told: list[str] = []
    vars(report)["warn"] = told.append
    host = Host(report)
    host.platform = "freebsd"
    host._table = Table(table)

    async def probe(*_: Any, **__: Any) -> Any:
        return "usable", "", None

    vars(host)["probe"] = probe
    try:
        lacking = host.gather([step.check(host) for step in steps])
        fine = not any(lacking) and not told
    except Exception:
        fine = False
    assert _shown(table, rows) == fine


def _shown(table: list[Entry], rows: list[Any]) -> bool:
    import envstart.mounts.table_freebsd

    before, linux = envstart.mounts.table_freebsd.mount_table, unchanged.LINUX
    envstart.mounts.table_freebsd.mount_table = lambda wanted: [entry for entry in table if entry.point in wanted]  # type: ignore
    unchanged.LINUX = False
    try:
        return unchanged._shown(("", "/"), remember.touched_paths(rows), rows)
    finally:
        envstart.mounts.table_freebsd.mount_table, unchanged.LINUX = before, linux


def _conf(factory: pytest.TempPathFactory, configuration: dict[str, str], *, by_section: bool) -> str:
    """``by_section``: what is said for all is wrong, and the environment has a section of its own."""
    lines = "".join(f"{key}={value}\n" for key, value in configuration.items())
    if "$ROOT" in lines:
        lines = f"ROOT=/nfs\n{lines}"
    path = factory.getbasetemp() / "fast.conf"
    path.write_text(f"NFS_SERVER=other\n[j]\n{lines}" if by_section else lines)
    return str(path)
