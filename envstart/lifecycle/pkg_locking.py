"""Tell whether pkg(8) must know that locks work on the file server of a jail, and whether it does. Pure."""

from __future__ import annotations

from envstart.engine.plan import Plan

# Below a jail's data directory, and the host's own, which counts for pkg -j and pkg -r.
CONF = "usr/local/etc/pkg.conf"
HOST_CONF = f"/{CONF}"
_KEY = "NFS_WITH_PROPER_LOCKING"
LINE = f"{_KEY} = true;"
_TRUE = ("true", "yes", "on")


def needs_locking(plan: Plan) -> bool:
    """Tell whether pkg(8) keeps its database on NFSv3 or GlusterFS there (docs/cbsd.md#pkg)."""
    from envstart.backends.nfs import version
    from envstart.steps.mount import Mount

    data = [step for step in plan.steps if isinstance(step, Mount) and step.name == "data"]
    return plan.backend == "gluster" or any(step.fstype == "nfs" and version(step.options) != "4" for step in data)


def has_locking(text: str) -> bool:
    """Tell whether a pkg.conf(5) sets it, with ``=``, ``:`` or a blank, as UCL allows; the last one counts."""
    locking = False
    for line in text.splitlines():
        for statement in line.partition("#")[0].split(";"):
            words = statement.replace("=", " ").replace(":", " ").split()
            if words and words[0].strip('"') == _KEY:
                locking = len(words) == 2 and words[1].strip('",').lower() in _TRUE
    return locking
