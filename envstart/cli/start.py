"""``envstart start`` and ``stop``: mount or unmount one jail or VM by hand."""

from __future__ import annotations

import argparse
import os

from envstart import lifecycle
from envstart.cli import plan, select
from envstart.cli.arguments import DRY_RUN, GIVEN, Verbs, add_verb
from envstart.config import common
from envstart.errors import UsageError
from envstart.system.host import Host
from envstart.system.log import Report


def add_parsers(verbs: Verbs) -> None:
    """Add the parsers of the verbs."""
    add_verb(verbs, "start", "mount what is missing, all or nothing", run, [GIVEN, DRY_RUN])
    add_verb(verbs, "stop", "unmount", run, [GIVEN, DRY_RUN])


def run(options: argparse.Namespace, report: Report, *, takeover: bool = False) -> int:
    """Start or stop; with -n only say what that would do. ``takeover``: take from another host what it holds."""
    if options.dry_run:
        return plan.run(options, report)
    plans = select.plans(options, report, options.verb)
    if len(plans) > 1:
        raise UsageError(f"cannot {options.verb} several jails or VMs at once: give -j")
    report.about(plans[0].environment.name, plans[0].config[common.LOG_FACILITY])
    host = Host(report)
    host.takeover = takeover
    host.interactive = True
    lifecycle.act(options.verb, plans[0], host)
    return os.EX_OK
