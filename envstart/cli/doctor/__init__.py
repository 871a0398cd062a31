"""``envstart doctor``: what will go wrong later, each with its remedy."""

from __future__ import annotations

import argparse

from envstart.cli import output, select
from envstart.cli.arguments import JSON, LISTED, Verbs, add_verb
from envstart.system.log import Report, tell


def add_parsers(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    add_verb(verbs, "doctor", "what will go wrong later, each with its remedy", run, [LISTED, JSON])


def run(options: argparse.Namespace, report: Report) -> int:
    """Print the findings; the status is that of a check."""
    # No other verb needs what examines.
    from envstart.cli.doctor import examine, finding

    host = select.machine(report)
    findings = examine.examine(select.inventories(options, host), options.names, host)
    if options.json:
        output.document(report, findings=[each._asdict() for each in findings])
    else:
        tell(finding.text(findings))
    return max((output.SEVERITY.get(each.level, 0) for each in findings), default=0)
