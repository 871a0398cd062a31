"""Tell which jails and VMs a verb is for: those that the command line names, or those that CBSD knows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from envstart import lifecycle
from envstart.cbsd import inventory
from envstart.cbsd.inventory import Inventory
from envstart.cbsd.monitored import CONFIGURATION, Monitored, Row
from envstart.config import list_file
from envstart.engine import registry
from envstart.engine.plan import Plan
from envstart.environment import Environment, in_workdir
from envstart.errors import UsageError
from envstart.system.host import Host
from envstart.system.log import Report

# Seconds that a look at everything may take.
_TIMEOUT = 600.0


def environments(options: argparse.Namespace, report: Report) -> list[Environment]:
    """Return those that the command line names by workdir, by directories or by a list; UsageError if by none."""
    values = {"-w": options.workdir, "-l": options.list, "-d and -s": options.data or options.system}
    ways = [way for way, value in values.items() if value is not None]
    if ways[1:]:
        raise UsageError(f"cannot tell which jail or VM is meant: {ways[0]} excludes {ways[1]}", hint="leave one out")
    if not ways:
        raise UsageError("cannot tell which jail or VM is meant: give -w and -j, or -l, or -d, -s and -j")
    if options.list:
        environments = list_file.environments(options.list)
        listed = [each for each in environments if options.name in (None, "", each.name)]
        if options.name and not listed:
            raise UsageError(f"cannot find {options.name} in {options.list}")
        return listed
    if not options.name:
        raise UsageError("cannot tell which jail or VM is meant: give -j NAME")
    if options.workdir:
        return [_in_workdir(options, report)]
    if not (options.data and options.system):
        raise UsageError("cannot do without -d and -s", hint="or give -w")
    return [Environment(options.name, options.data, options.system, options.fstab, options.rcconf)]


def _in_workdir(options: argparse.Namespace, report: Report) -> Environment:
    """Return the directories as CBSD's row has them, which may know them better than their usual names."""
    (workdir,) = inventory.workdirs([options.workdir])
    usual, host = in_workdir(options.name, workdir), Host(report)
    listing: Inventory = host.complete(inventory.read_files(host, workdir))
    record = listing.get(usual.name)
    if record is None:
        if listing.complete:
            report.warn(f"CBSD knows no {usual.name} in {workdir}")
        return usual
    if record.backend not in ("", options.backend):
        report.warn(f"CBSD starts {usual.name} by {record.backend}, not by {options.backend}: {record.hook}")
    return record.environment or usual


def plans(options: argparse.Namespace, report: Report, verb: str = "start") -> list[Plan]:
    """Return the plans of a start or stop of those that the command line names."""
    return [
        lifecycle.planned(verb, options.backend, environment, options.config, Host(report))
        for environment in environments(options, report)
    ]


def given(options: argparse.Namespace, report: Report, verb: str = "start") -> list[Monitored] | None:
    """Return those that the command line names (is_given), planned; None where CBSD is to tell which there are."""
    return [Monitored.given(plan) for plan in plans(options, report, verb)] if is_given(options) else None


def is_given(options: argparse.Namespace) -> bool:
    """Tell whether -j, -d, -s or -l names the jail or VM; its backend, in front of them, is then an option too."""
    if not any((options.name, options.data, options.system, options.list)):
        if options.config:
            raise UsageError("cannot use -c for jails and VMs that CBSD knows: name one by -j")
        return False
    if len(options.names) != 1 or options.names[0] not in registry.NAMES:
        raise UsageError(f"cannot tell which hook is meant: give one of {', '.join(registry.NAMES)} before the options")
    if len(options.workdirs) > 1:
        raise UsageError("cannot look for one jail or VM in several workdirs: give one -w")
    options.backend = options.names[0]
    options.workdir = options.workdirs[0] if options.workdirs else None
    return True


def inventories(options: argparse.Namespace, host: Host) -> list[Inventory]:
    """Return what CBSD knows in each workdir; UsageError if that has nothing of a name or for a pattern."""
    listings: list[Inventory] = [
        host.complete(inventory.read(host, path)) for path in inventory.workdirs(options.workdirs)
    ]
    for name in options.names:
        # All can be none.
        if name != "*" and not any(listing.chosen([name]) for listing in listings):
            problems = "; ".join(str(problem) for listing in listings for problem in listing.problems)
            places = ", ".join(listing.workdir for listing in listings)
            hint = f"give -j NAME with the backend {name}" if name in registry.NAMES else ""
            wrong = f"cannot find jail or VM {name} in {places}{': ' + problems if problems else ''}"
            raise UsageError(wrong, hint=hint)
    return listings


def warn_of_problems(report: Report, listings: Sequence[Inventory]) -> int:
    """Say what could not be read; EX_TEMPFAIL if CBSD can know of more jails and VMs than those listed."""
    for listing in listings:
        for problem in listing.problems:
            report.warn(str(problem))
    return os.EX_OK if all(listing.complete for listing in listings) else os.EX_TEMPFAIL


def warn_of_unplanned(report: Report, rows: Sequence[Row]) -> int:
    """Say for which jails and VMs nothing can be done; EX_CONFIG if there are any."""
    unplanned = [row.monitored for row in rows if row.state.status == CONFIGURATION and row.monitored is not None]
    for each in unplanned:
        report.warn(f"{each.record.name}: {each.error}")
    return os.EX_CONFIG if unplanned else os.EX_OK


def machine(report: Report) -> Host:
    """Return the machine, for a look at everything."""
    host = Host(report)
    host.deadline.set(_TIMEOUT)
    # So that ^T is answered from the first.
    host.signals.arm()
    return host
