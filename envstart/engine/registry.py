"""Find the backends: each is a module of envstart/backends, imported when it is asked for."""

from __future__ import annotations

import importlib
import os
from typing import Protocol, cast

from envstart.config.load import Config
from envstart.config.schema import Options
from envstart.engine.plan import Plan
from envstart.environment import Environment
from envstart.system.host import Host
from envstart.system.site_packages import ROOT

NAMES = tuple(
    sorted(
        file.removesuffix(".py")
        for file in os.listdir(f"{ROOT}/envstart/backends")
        if file.endswith(".py") and not file.startswith("_")
    )
)


class Backend(Protocol):
    """Protocol of the backends.

    One whose plan depends on more than its keys also has ``inputs(environment, config) -> dict[str, str]``, which reads
    that beforehand; one with keys whose defaults the host knows, ``derived(plan, host) -> dict[str, str]``.
    """

    # What it mounts, for tables: a line.
    TITLE: str
    OPTIONS: Options

    def plan(self, environment: Environment, config: Config) -> Plan:
        """Make the plan of a jail or VM from its configuration alone; ConfigError."""


def backend(name: str) -> Backend:
    """Return a backend of NAMES."""
    return cast(Backend, importlib.import_module(f"envstart.backends.{name}"))


def make_plan(name: str, environment: Environment, config: Config) -> Plan:
    """Plan a jail or VM by a backend, after reading what the plan takes from elsewhere on the host.

    ConfigError, PermissionDeniedError, TemporaryError.
    """
    module = backend(name)
    if any(key.endswith(("VOLUME_DIR", "_MOUNT_DIR")) for key in config):
        from envstart.config import staging

        config = staging.keep_old(config, environment)
    if hasattr(module, "inputs"):
        config = config.with_inputs(module.inputs(environment, config))
    return module.plan(environment, config)


def derived(plan: Plan, host: Host) -> dict[str, str]:
    """Return the values of keys whose defaults depend on other keys, or on the host."""
    module = backend(plan.backend)
    return module.derived(plan, host) if hasattr(module, "derived") else {}
