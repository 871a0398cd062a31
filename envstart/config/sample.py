"""Texts made from a backend's rows: the sample configuration, and tables of keys for docs/. Pure."""

from __future__ import annotations

import textwrap

from envstart.config.schema import Options


def conf(backend: str, options: Options) -> str:
    """Return the sample file: each key with its help and its default, commented out unless it is required."""
    lines = [
        f"# env_start_{backend}.conf: what env_start_{backend} and env_stop_{backend} read",
        f"# Made by: envstart config sample {backend}",
        '# KEY="value" as sh(1) reads it; nothing is run. A line [NAME] or [PATTERN*] begins a section that overrides',
        "# the keys above it for the jails and VMs whose name it matches.",
    ]
    for option in options:
        lines.append("")
        lines += textwrap.wrap(option.help, 110, initial_indent="# ", subsequent_indent="# ")
        if option.default is None:
            lines += ["# Required.", f'{option.name}=""']
        else:
            if option.default_help:
                lines.append(f"# Default: {option.default_help}")
            lines.append(f'#{option.name}="{option.default}"')
    return "\n".join(lines) + "\n"


def table(options: Options) -> str:
    """Return the rows as a table for a page of docs/."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for option in options:
        default = "required" if option.default is None else option.default_help or f"`{option.default}`"
        lines.append(
            f"| `{option.name}` | {default if default != '``' else 'empty'} | {option.help} |".replace("``", "`")
        )
    return "\n".join(lines) + "\n"
