"""Jails and VMs of a list file, for hosts without CBSD."""

from __future__ import annotations

from envstart.config.load import trusted_text
from envstart.environment import Environment
from envstart.errors import ConfigError, UnavailableError, UsageError
from envstart.system import site_packages


def environments(path: str) -> list[Environment]:
    """Read a list file, for hosts without CBSD: a section named like each jail, in ConfigObj's own format."""
    site_packages.reach()
    try:
        from configobj import ConfigObj, ConfigObjError, Section
    except ImportError:
        remedy = site_packages.how_to_install("configobj")
        raise UnavailableError(f"cannot read {path}: Python's configobj is missing", hint=remedy) from None
    text = trusted_text(path)
    try:
        parsed = ConfigObj(text.splitlines(), interpolation=False, list_values=False, raise_errors=True)
    except ConfigObjError as error:
        raise ConfigError(f"cannot use {path}: {error}") from None
    listed = []
    for name, section in parsed.items():
        if not isinstance(section, Section):
            raise ConfigError(f"cannot use {path}: {name} is in no section", hint="begin with [NAME]")
        unknown = set(section) - {"data", "system", "fstab", "rcconf"}
        if unknown or not {"data", "system"} <= set(section):
            raise ConfigError(
                f"cannot use {path}: [{name}] has data, system and perhaps fstab and rcconf, nothing else"
            )
        try:
            listed.append(Environment(name, **{key: str(value) for key, value in section.items()}))
        except UsageError as error:
            raise ConfigError(f"cannot use {path}: [{name}]: {error}") from None
    return listed
