"""``envstart install`` and ``uninstall``: the links by which CBSD runs env_poststop and env_remove."""

from __future__ import annotations

import argparse
import os

from envstart import lifecycle
from envstart.cbsd import links
from envstart.cbsd.inventory import Inventory
from envstart.cbsd.monitored import Monitored
from envstart.cli import select
from envstart.cli.arguments import NAMED, Verbs, add_verb
from envstart.errors import ConfigError, EnvstartError, TemporaryError
from envstart.system.host import Host
from envstart.system.log import Report, write


def add_parsers(verbs: Verbs) -> None:
    """Add the parsers of the verbs."""
    add_verb(verbs, "install", "make CBSD unmount storage on stop and before remove", run, [NAMED])
    add_verb(verbs, "uninstall", "remove the links of install", run, [NAMED])


def run(options: argparse.Namespace, report: Report) -> int:
    """Make or remove the links, and print each."""
    host = select.machine(report)
    lifecycle.only_root(options.verb, "for " + " ".join(options.names), host)
    listings = select.inventories(options, host)
    status = select.warn_of_problems(report, listings)
    for listing in listings:
        systems = [f"{listing.workdir}/jails-system/{each.name}" for each in links.chosen(listing, options.names)]
        if "*" in options.names:
            systems += links.skeletons(listing.workdir)
        for system in systems:
            try:
                _refuse_bare(host, listing, system, options.verb)
                for link in links.change(host, options.verb, system):
                    write(1, f"{link}\n")
            except EnvstartError as error:
                report.fail(error)
                status = max(status, error.status)
    return status


def _refuse_bare(host: Host, listing: Inventory, system: str, verb: str) -> None:
    """Raise for a mount point without its mount: the next start would hide a link in it."""
    record = listing.get(os.path.basename(system)) if os.path.dirname(system).endswith("/jails-system") else None
    if record is None:
        return
    watched = Monitored.of_record(record)
    if watched.plan is None:
        if verb == "uninstall":
            # A link that is there can be taken away, whatever the configuration has become.
            return
        raise ConfigError(f"cannot use {system}: whether it must be mounted cannot be told: {watched.error}")
    is_mount_point = any(step.point == system for step in watched.plan.steps)
    if is_mount_point and not host.complete(host.stack(system)):
        raise TemporaryError(f"cannot use {system}: it is not mounted", hint="start the jail or VM first")
