"""Remove what `make install` has put below a PREFIX, unless something uses it: ``make uninstall``.

Configuration that somebody has written or changed stays, and what stays is told.
"""

from __future__ import annotations

import argparse
import filecmp
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from envstart.cbsd import inventory, links
from envstart.config import shell
from envstart.engine import record
from envstart.errors import UsageError
from envstart.system.host import Host
from envstart.system.log import Report

RECORDS = record.DIR
ENABLED_UNITS = "/etc/systemd/system/*.wants/envstart*"
# Below PREFIX: directories that nobody else puts anything into.
OWN = ("libexec/envstart", "etc/envstart", "share/examples/envstart")


def uses(prefix: str, workdirs: Sequence[str]) -> Iterator[str]:
    """Yield what would miss the hooks below a PREFIX: jails and VMs of CBSD, skeletons, mounts, units."""
    below, host = f"{os.path.realpath(prefix)}/", Host(Report("uninstall"))
    try:
        places = inventory.workdirs(workdirs)
    except UsageError:
        # A host without CBSD.
        places = []
    for workdir in places:
        yield from _uses_of_cbsd(host, workdir, below)
    yield from _mounted(host)
    for path in sorted(glob.glob(ENABLED_UNITS)):
        if os.path.realpath(path).startswith(below):
            yield f"{path} is enabled: systemctl disable --now {os.path.basename(path)}"


def _uses_of_cbsd(host: Host, workdir: str, below: str) -> Iterator[str]:
    listing = host.complete(inventory.read_files(host, workdir))
    # Without the database nobody can tell.
    yield from map(str, listing.problems)
    for each in listing.environments:
        if each.registered and each.hook and os.path.realpath(each.hook).startswith(below):
            yield f"{each.name}: mnt_start is {each.hook}; change it by cbsd jset or cbsd bset"
    for skeleton in links.skeletons(workdir):
        if any(os.path.islink(f"{skeleton}/{directory}/{links.LINK}") for directory in links.PROGRAMS):
            yield f"{skeleton} has links to env_poststop and env_remove: envstart uninstall '*' -w {workdir}"


def _mounted(host: Host) -> Iterator[str]:
    """Yield the jails and VMs whose directories are mounted; their records do not say by which installation."""
    points = host.complete(host.mounts()).points
    for path in sorted(glob.glob(f"{RECORDS}/*.record")):
        told = {each.key: each.value for each in shell.read(Path(path).read_text(errors="surrogateescape")).assignments}
        if any(_resolved(told[key]) in points for key in ("DATA", "SYSTEM", "FSTAB") if told.get(key)):
            yield f"{told['NAME']}: its directories are mounted; stop it"


def _resolved(path: str) -> str:
    """Return a path without links in its parent; what is mounted there can be dead, and is not looked at."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def remove(stage: Path, top: Path) -> tuple[int, list[Path]]:
    """Remove below ``top`` what is below ``stage``; return how many files, and the paths of ours that stay."""
    count, changed = 0, list[Path]()
    for staged in sorted(path for path in stage.rglob("*") if path.is_symlink() or path.is_file()):
        path = top / staged.relative_to(stage)
        if not os.path.lexists(path):
            continue
        if path.is_relative_to(top / "etc") and not filecmp.cmp(path, staged, shallow=False):
            changed.append(path)
            continue
        path.unlink()
        count += 1
    # Of other versions, and of the Python that has run it.
    for path in (*(top / OWN[0]).rglob("*.py"), *(top / OWN[0]).rglob("*.pyc")):
        path.unlink()
    for own in OWN:
        for directory, _, _ in os.walk(top / own, topdown=False):
            if not os.listdir(directory):
                os.rmdir(directory)
    left = [path for own in OWN for path in (top / own).rglob("*") if not path.is_dir()]
    return count, sorted({*changed, *left})


def main() -> int:
    """Remove it, and tell what stays."""
    parser = argparse.ArgumentParser(prog="uninstall", description=__doc__)
    parser.add_argument("stage", type=Path, help="where make install has put the same for comparison")
    parser.add_argument("--destdir", default="")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--workdir", action="append", default=[], help="of CBSD; default: cbsd_workdir")
    parser.add_argument("--force", action="store_true", help="although something uses it")
    options = parser.parse_args()
    users = [] if options.destdir else list(uses(options.prefix, options.workdir))
    for user in users:
        print(f"uninstall: {user}", file=sys.stderr)
    if users and not options.force:
        hint = f"to remove it all the same: make uninstall FORCE=1 PREFIX={options.prefix}"
        print(f"uninstall: cannot remove envstart: it is in use; {hint}", file=sys.stderr)
        return os.EX_TEMPFAIL
    top = Path(f"{options.destdir}{options.prefix}")
    count, left = remove(options.stage / options.prefix.lstrip("/"), top)
    print(f"uninstall: {count} files removed below {top}")
    kept = [*left, *(path for path in (Path(RECORDS),) if not options.destdir and path.exists())]
    for path in kept:
        print(f"uninstall: left: {path}")
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
