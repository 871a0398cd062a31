"""``envstart install`` and ``uninstall``: the links by which CBSD runs env_poststop and env_remove."""

from __future__ import annotations

import argparse

from envstart import lifecycle
from envstart.cbsd import links
from envstart.cbsd.inventory import EnvironmentRecord
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
        chosen = links.chosen(listing, options.names)
        systems = {f"{listing.workdir}/jails-system/{record.name}": record for record in chosen}
        for system in [*systems, *(links.skeletons(listing.workdir) if "*" in options.names else ())]:
            try:
                if system in systems:
                    _refuse_bare(host, systems[system], system, options.verb)
                for link in links.change(host, options.verb, system):
                    write(1, f"{link}\n")
            except EnvstartError as error:
                report.fail(error)
                status = max(status, error.status)
    return status


def _refuse_bare(host: Host, record: EnvironmentRecord, system: str, verb: str) -> None:
    """Raise for a mount point without its mount: the next start would hide a link in it."""
    watched = Monitored.of_record(record)
    if watched.plan is None:
        if verb == "uninstall":
            # A link that is there can be taken away, whatever the configuration has become.
            return
        raise ConfigError(f"cannot use {system}: whether it must be mounted cannot be told: {watched.error}")
    is_mount_point = any(step.point == system for step in watched.plan.steps)
    if is_mount_point and not host.complete(host.stack(system)):
        raise TemporaryError(f"cannot use {system}: it is not mounted", hint="start the jail or VM first")
