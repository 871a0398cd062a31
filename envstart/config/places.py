"""The places in which the configuration of a backend is looked for, first found wins."""

from __future__ import annotations

import os

from envstart.system.site_packages import ROOT

# Below PREFIX, where `make install` puts what belongs together.
_INSTALLED = "/libexec/envstart"


def prefix(root: str) -> str:
    """Return the PREFIX of ``make install`` whose package lies in ``root``; /usr/local for a checkout and for pip."""
    top = os.path.realpath(root)
    return top[: -len(_INSTALLED)] if top.endswith(_INSTALLED) else "/usr/local"


SYSTEM_CONFIG_DIRS = (f"{prefix(ROOT)}/etc/envstart", "/root/etc")


def candidates(backend: str, workdir: str | None) -> list[str]:
    """Return the files that can be the configuration, in order; the first that exists counts."""
    directories = [f"{workdir}/etc"] if workdir else []
    return [f"{directory}/env_start_{backend}.conf" for directory in (*directories, *SYSTEM_CONFIG_DIRS)]
