"""Tell what CBSD does to a jail or VM that is mounted and not registered.

jdestroy takes one without a row in the database for what junregister has left, skips remove.d, and deletes what is in
the directories, mounted or not (sudoexec/jdestroy of CBSD 14.1.3a).
"""

from __future__ import annotations

from envstart.config import remedies
from envstart.errors import EnvstartError
from envstart.system import filesystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from envstart.system.host import Host

STATE = "mounted and not registered"
# Seconds that the system directory may take to answer.
_PATIENCE = 3.0


def danger(name: str, workdir: str, what: str, point: str, *, is_jail: bool = True) -> tuple[str, str]:
    """Return what is wrong, and the remedy; ``what`` is mounted on ``point``."""
    remove = f"cbsd {'j' if is_jail else 'b'}remove {name}"
    text = f"{what} is mounted on {point}, and CBSD has no row of {name}: {remove} would delete what is in it"
    stop = remedies.known("orphans", [name], [workdir], "--stop")
    return text, f"unmount it first: {stop}; or register it: cbsd {'j' if is_jail else 'b'}register jname={name}"


def has_left_rc_conf(host: Host, workdir: str, name: str) -> bool:
    """Tell whether jdestroy would take a jail that CBSD does not list for an unregistered one."""
    path = f"{workdir}/jails-system/{name}/rc.conf_{name}"
    try:
        return bool(host.complete(host.call_with_timeout(filesystem.is_file, path, timeout=_PATIENCE)))
    except (EnvstartError, OSError):
        return False
