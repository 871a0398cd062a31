"""``envstart plan``: what is there, and what a start or a stop would do."""

from __future__ import annotations

import argparse
import os

from envstart.cli import select
from envstart.cli.arguments import GIVEN, Verbs, add_verb
from envstart.errors import EnvstartError
from envstart.lifecycle.describe import describe
from envstart.system.log import Report


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    parser = add_verb(verbs, "plan", "what is there, and what a run would do", run, [GIVEN])
    parser.add_argument("--stop", dest="verb", action="store_const", const="stop", help="plan a stop")
    parser.set_defaults(verb="start")


def run(options: argparse.Namespace, report: Report) -> int:
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
