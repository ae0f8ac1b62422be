"""What an operator does once, by ptt's own commands: settings, a user in a Git repository, a DKIM key in the DNS."""

import asyncio
import shlex
from importlib.util import find_spec

from ptt.demo import site as place
from ptt.demo.programs import DemoFailed, Finished
from ptt.demo.stage import Stage, list_key_names

# dkimpy, which verifies what arrives, needs PyNaCl for Ed25519; ptt itself does not.
_ALGORITHMS = ("rsa2048", "ed25519") if find_spec("nacl") else ("rsa2048",)


async def set_up(stage: Stage) -> None:
    """Make ptt.toml and what belongs to it, and adapt it to this place.

    Raises:
        DemoFailed: a command failed.
    """
    console, site = stage.console, stage.site
    console.step("Settings: ptt init, and what is special here")
    certificate, key = (str(path.relative_to(site.directory)) for path in site.certificate("mail"))
    await _run_ptt(stage, "init", "--domain", place.DOMAIN, "--certificate", certificate, "--key", key)
    edits = place.list_edits(stage.ports)
    site.edit_config(edits)
    for dotted, value in edits.items():
        console.tell("ptt.toml", f"{dotted} = {value}")
    await _run_ptt(stage, "config", "check")
    console.check((site.directory / "users.git" / "HEAD").exists(), "there are settings, keys/ and users.git")


async def create_user(stage: Stage) -> None:
    """Make a user in the repository, and look at it with Git's own eyes.

    Raises:
        DemoFailed: a command failed.
    """
    console = stage.console
    console.step("A user in a Git repository")
    add = ("user", "add", place.LOGIN, "--address", place.ADDRESS, "--password-stdin")
    await _run_ptt(stage, *add, text=f"{stage.password}\n")
    log = await _run(stage, "git", "--git-dir=users.git", "log", "--format=%h %an: %s", "--stat", "main")
    console.check(f"users/{place.LOGIN}.toml" in log.stdout, f"users/{place.LOGIN}.toml is in a commit of main")
    shown = await _run(stage, "git", "--git-dir=users.git", "show", f"main:users/{place.LOGIN}.toml")
    console.check(
        "$argon2id$" in shown.stdout and stage.password not in shown.stdout, "the password is in it as a hash only"
    )


async def create_key(stage: Stage) -> None:
    """Make DKIM keys and publish them.

    Raises:
        DemoFailed: a command failed.
    """
    console = stage.console
    console.step("DKIM keys, published by signed DNS UPDATEs")
    for algorithm in _ALGORITHMS:
        await _run_ptt(stage, "key", "create", place.DOMAIN, "--algorithm", algorithm)
    await _run_ptt(stage, "key", "publish", place.DOMAIN)
    for update in stage.primary.updates:
        changes = ", ".join(update.changes)
        console.tell("DNS primary", f"UPDATE signed by {update.signer or 'nobody'}: {update.rcode} ({changes})")
    names = list_key_names(stage)
    console.check(len(names) == len(_ALGORITHMS), "the primary verified each TSIG signature and took each update")
    for name in names:
        record = await asyncio.to_thread(stage.dns_client.get_txt, name)
        console.tell("DNS primary", f"{name} TXT {(record or b'(nothing)').decode()}")
        console.check(record and record.startswith(b"v=DKIM1"), "the public key is in the DNS")


async def _run_ptt(stage: Stage, *arguments: str, text: str = "") -> Finished:
    return _show(stage, ("ptt", *arguments), await stage.commands.ptt(*arguments, text=text))


async def _run(stage: Stage, *argv: str) -> Finished:
    return _show(stage, argv, await stage.commands.run(*argv))


def _show(stage: Stage, argv: tuple[str, ...], finished: Finished) -> Finished:
    stage.console.command(shlex.join(argv), finished.lines)
    if finished.exit_code:
        raise DemoFailed(f"`{shlex.join(argv)}` ended with {finished.exit_code}")
    return finished
