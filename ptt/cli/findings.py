"""Prints what checks found, and ends the command with the code that it means."""

import json
from collections.abc import Iterable
from dataclasses import asdict

import click

from ptt.cli.exits import PROBLEMS_FOUND, TEMPORARY
from ptt.core.finding import Finding, Health

output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


def report(ctx: click.Context, findings: Iterable[Finding], output: str) -> None:
    """Print each finding as it comes; exit with 4 if there is a problem, else with 75 if anything is unknown."""
    shown = []
    for finding in findings:
        shown.append(finding)
        if output == "table":
            click.echo(_format(finding))
    if output == "json":
        click.echo(json.dumps([asdict(finding) for finding in shown], indent=2))
    healths = {finding.health for finding in shown}
    if Health.PROBLEM in healths:
        ctx.exit(PROBLEMS_FOUND)
    if Health.UNKNOWN in healths:
        ctx.exit(TEMPORARY)


def _format(finding: Finding) -> str:
    line = f"{finding.health.value:8} {finding.check:18} {finding.subject}: {finding.detail}".rstrip(": ")
    show = finding.advice and finding.health is not Health.OK
    return f"{line}\n         -> {finding.advice}" if show else line
