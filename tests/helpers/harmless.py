"""Scenes of block storage; at the end of each it is asserted that nothing was done that must never be done."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blocks import PORTAL, TARGET, BlockSite
from cbsd import Variant
from sim import forked

# Commands, and words of their command lines, that make or destroy what is on a disk, or use force below a mount.
NEVER = (
    ("newfs",),
    ("geli", "init"),
    ("geli", "label"),
    ("geli", "detach", "-f"),
    ("geli", "detach", "-l"),
    ("gmultipath", "label"),
    ("gmultipath", "destroy"),
    ("gmultipath", "stop"),
    ("hastctl", "create"),
    ("iscsictl", "-w"),
    ("iscsictl", "-a"),
    ("iscsictl", "-s"),
    ("mdconfig", "-o", "force"),
    ("mount", "-f"),
    ("mount", "force"),
    ("camcontrol", "clear"),
)
# A portal beside PORTAL, and the target of environment jail1.
OTHER = "172.16.0.2"
SHARED = TARGET.replace("{name}", "jail1")


@contextlib.contextmanager
def scene(top: Path, variant: Variant, **settings: Any) -> Iterator[BlockSite]:
    """Yield a site with the environment jail1, which must not have come to harm at the end."""
    with BlockSite(top, variant, **settings) as site:
        yield site
        assert harm(site) == ""


def by_hooks(site: BlockSite, *words: str) -> list[list[str]]:
    """Command lines that begin with the name words[0], have all of the others, and were not run by the test itself."""
    return [
        call["argv"]
        for call in site.world.calls(words[0] if words else None)
        if not forked.has_started(call["parent"]) and set(words[1:]) <= set(call["argv"])
    ]


def harm(site: BlockSite) -> str:
    """Return the harm that was done, "" if none was."""
    found = [" ".join(argv) for never in NEVER for argv in by_hooks(site, *never)]
    # A file system whose device was taken from under it.
    found += [f"{mount['node']} is lost" for mount in site.world.mounts() if mount["options"].get("lost")]
    return "; ".join([*found, *([site.world.panic] if site.world.panic else [])])


def image_of(site: BlockSite, target: str = SHARED, lun: int = 0) -> Path:
    """Return the file behind a LUN."""
    return Path(site.storage.box["targets"][target]["luns"][str(lun)]["image"])


def unclean(site: BlockSite) -> None:
    """Make jail1's file system anew, as if its host had lost its power: only such a one is checked."""
    site.world.newfs(str(image_of(site)), clean=False, soft_updates=False)
    (site.world.files(image_of(site)) / "etc").mkdir()


def sessions(site: BlockSite) -> list[tuple[str, str]]:
    """Target and portal of every session of the host."""
    return sorted((session["target"], session["portal"]) for session in site.world.sessions())


def seen(site: BlockSite, name: str = "jail1") -> list[str]:
    """Return the names in an environment's data directory, as its jail would see them."""
    return sorted(entry for entry in os.listdir(site.world.real(site.point("data", name))) if not entry.startswith("."))


def add_on_lun(site: BlockSite, name: str, number: int) -> None:
    """One more environment, whose volume is another LUN of jail1's target; its file is called as it is."""
    for which in ("data", "system", "fstab"):
        site.point(which, name).mkdir()
    files = site.make(str(site.storage.lun(SHARED, number, serial=f"disk-{name}")))
    (files / name).mkdir()
    with site.conf.open("a") as stream:
        stream.write(f'[{name}]\nISCSI_TARGET="{SHARED}"\nISCSI_LUN="{number}"\n')


def two_portals(site: BlockSite) -> None:
    """jail1's target is reached through two portals; its disk is a new one."""
    site.storage.target(SHARED, portals=(PORTAL, OTHER))
    (site.make(str(site.storage.lun(SHARED, 0, serial="disk-jail1"))) / "etc").mkdir()


def by_hand(site: BlockSite, portal: str, target: str = SHARED) -> str:
    """Make a session as an administrator does, and return its disk."""
    assert site.world.command("iscsictl", "-A", "-p", portal, "-t", target).returncode == 0
    until = time.monotonic() + 20
    while time.monotonic() < until:
        for session in site.world.sessions():
            if (session["target"], session["portal"]) == (target, portal) and session["luns"]:
                return f"/dev/{session['luns']['0']}"
        time.sleep(0.02)
    raise AssertionError("the session does not come up")
