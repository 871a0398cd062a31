"""Sites that `envstart doctor` looks at: one that is well, and what the doctor finds there."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from pathlib import Path

from cbsd import Site
from sim.world import TESTS

from envstart.lifecycle import pkg_locking

ROOT = TESTS.parent


def examine(site: Site, *names: str) -> list[dict[str, str]]:
    """Run the doctor and return its findings; the exit status must be that of the worst."""
    ended = site.hand("doctor", "--json", "-w", str(site.workdir), *names)
    assert ended.stderr == ""
    found: list[dict[str, str]] = json.loads(ended.stdout)["findings"]
    levels = {one["level"] for one in found}
    assert ended.returncode == (2 if "critical" in levels else 1 if "warning" in levels else 0)
    return found


def hook(site: Site) -> Path:
    """Return the start hook that the environments have."""
    return site.workdir.parent / "checkout" / "hooks" / f"env_start_{site.variant.backend}"


def well(site: Site) -> None:
    """All that a doctor looks at, as it should be."""
    hooks = hook(site).parent
    python = hooks.parent / ".venv" / "bin" / "python"
    for directory in (hooks, python.parent, site.workdir / "var" / "db", site.world.path / "boot"):
        directory.mkdir(parents=True, exist_ok=True)
    (hooks.parent / "envstart").mkdir(exist_ok=True)
    for name in (hook(site).name, "run-hook"):
        shutil.copy(ROOT / "hooks" / name, hooks / name)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for name in ("nfscl", "nullfs", "geom_eli", "iscsi"):
        (site.world.path / "boot" / f"{name}.ko").touch()
    site.world.set(sysctls={"kern.module_path": f"/boot/modules;{site.world.path}/boot"})
    (site.workdir / "nc.inventory").write_text('nodename="node1.example.com"\nzfsfeat="0"\nhammerfeat="0"\n')
    conf = site.world.path / pkg_locking.CONF
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text(f"# for NFS\n{pkg_locking.LINE}\n")
    database(site, jail1=str(hook(site)))
    links(site, "jail1")


def database(site: Site, **hooks: str) -> None:
    """CBSD's database with these environments and their mnt_start."""
    real = site.workdir / "var" / "db" / "inv.node1.example.com.sqlite"
    link = real.with_name("local.sqlite")
    real.unlink(missing_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(real.name)
    with sqlite3.connect(real) as connection:
        connection.execute("CREATE TABLE jails (jname TEXT, emulator TEXT, mnt_start TEXT, data TEXT)")
        connection.executemany("INSERT INTO jails VALUES (?, 'jail', ?, '0')", hooks.items())
    connection.close()


def links(site: Site, name: str) -> None:
    """Make the links of ``envstart install`` in a system directory, as the server holds it."""
    brought = "system" in site.variant.directories
    system = site.held("system", name) if brought else site.point("system", name)
    for directory in ("master_poststop.d", "remove.d"):
        (system / directory).mkdir()
        (system / directory / "envstart").symlink_to("/bin/sh")
