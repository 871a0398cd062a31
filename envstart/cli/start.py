"""``envstart start``, ``stop`` and ``plan``: mount or unmount one jail or VM by hand, or tell what that would do."""

from __future__ import annotations

import argparse
import os

from envstart import lifecycle
from envstart.cli import select
from envstart.cli.arguments import DRY_RUN, GIVEN, Verbs, add_verb
from envstart.config import common
from envstart.errors import EnvstartError, UsageError
from envstart.lifecycle.forecast import describe
from envstart.system.host import Host
from envstart.system.log import Report


def add_parsers(verbs: Verbs) -> None:
    """Add the parsers of the verbs."""
    add_verb(verbs, "start", "mount what is missing, all or nothing", run, [GIVEN, DRY_RUN])
    add_verb(verbs, "stop", "unmount", run, [GIVEN, DRY_RUN])
    parser = add_verb(verbs, "plan", "what is there, and what a run would do", _plan, [GIVEN])
    parser.add_argument("--stop", dest="verb", action="store_const", const="stop", help="plan a stop")
    parser.set_defaults(verb="start")


def run(options: argparse.Namespace, report: Report, *, takeover: bool = False) -> int:
    """Start or stop; with -n only say what that would do. ``takeover``: take from another host what it holds."""
    if options.dry_run:
        return _plan(options, report)
    plans = select.plans(options, report, options.verb)
    if len(plans) > 1:
        raise UsageError(f"cannot {options.verb} several jails or VMs at once: give -j")
    report.about(plans[0].environment.name, plans[0].config[common.LOG_FACILITY])
    host = Host(report)
    host.takeover = takeover
    host.interactive = True
    lifecycle.act(options.verb, plans[0], host)
    return os.EX_OK


def _plan(options: argparse.Namespace, report: Report) -> int:
    """Print the plans; the exit status is the one that the run would end with."""
    status = os.EX_OK
    for plan in select.plans(options, report, options.verb):
        report.subject = plan.environment.name
        try:
            describe(plan, report, options.verb)
        except EnvstartError as error:
            report.fail(error)
            status = max(status, error.status)
    return status
