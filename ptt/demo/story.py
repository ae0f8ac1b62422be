"""The whole demonstration, from an empty folder to verified mail, and back to nothing running."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from ptt.demo.console import Console
from ptt.demo.journey import arrive, be_refused, prove, submit
from ptt.demo.preparation import create_key, create_user, set_up
from ptt.demo.programs import Commands, DemoFailed, Up, make_environment
from ptt.demo.site import Site
from ptt.demo.stage import Stage, open_stage

READY_TIMEOUT_S = 45.0


async def tell(directory: Path, environment: Mapping[str, str], *, now: datetime) -> bool:
    """Run the demonstration in an empty folder and print it.

    Args:
        directory: where everything goes; a short path, for Valkey's socket is in it.
        environment: of the programs; what configures ptt is left out of it.
        now: certificates begin a day before.

    Returns:
        Whether everything held.
    """
    console = Console()
    commands = Commands(directory=directory, environment=make_environment(environment))
    password = secrets.token_urlsafe(12)
    try:
        async with open_stage(console, Site(directory), commands, password=password, now=now) as stage:
            await set_up(stage)
            await create_user(stage)
            await create_key(stage)
            await _run_up(stage)
    except DemoFailed as error:
        console.fail(str(error))
    console.sum_up()
    return not console.failures


async def _run_up(stage: Stage) -> None:
    console = stage.console
    console.step("ptt up: embedded Valkey, sign, relay, ingress")
    console.command("ptt up", [])
    up = await Up.start(stage.commands)
    try:
        await up.wait_for(lambda: up.find("up.ready"), "up.ready", READY_TIMEOUT_S)
        for event in up.find("process.started"):
            console.tell(event["process"], f"process {event['pid']}")
        console.tell("up.ready", f"after {up.find('up.ready')[0]['elapsed_s']} s")
        sent = await submit(stage)
        await be_refused(stage)
        await arrive(stage, up, sent)
        await prove(stage, sent)
    finally:
        await _stop(stage, up)


async def _stop(stage: Stage, up: Up) -> None:
    console = stage.console
    console.step("The end: SIGTERM, as systemd sends it")
    crashes = len(up.find("process.exited"))
    exit_code = await up.stop()
    for event in up.find("process.exited"):
        console.tell(event["process"], f"exit code {event['exit_code']}")
    console.check(not crashes, f"processes that had ended before: {crashes}")
    console.check(exit_code == 0, f"ptt up finished what it had in hand and ended with {exit_code}")
