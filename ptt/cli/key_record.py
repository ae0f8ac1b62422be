"""What all ``ptt key`` commands share: the domain that is typed, the settings, the record as a line of a zone file."""

from datetime import UTC, datetime

import click

from ptt import maillog
from ptt.core.address import Domain, parse_domain
from ptt.core.errors import MalformedInput
from ptt.core.signature import split_txt
from ptt.domain_names import to_a_labels
from ptt.settings import Settings, load_settings
from ptt.signing.keys import SigningKey


def parse_domain_argument(_ctx: click.Context, _param: click.Parameter, value: str) -> Domain:
    """Parse a domain that a person typed, in U-labels or A-labels."""
    try:
        return parse_domain(value, to_a_labels)
    except MalformedInput as error:
        raise click.BadParameter(str(error)) from error


def load(ctx: click.Context) -> Settings:
    """Load the settings and log at their level."""
    settings = load_settings(ctx.obj["config"])
    maillog.configure(settings.log.level)
    return settings


def format_zone_line(key: SigningKey, ttl_s: int) -> str:
    """Write the record of a key as a zone file has it."""
    strings = " ".join(f'"{part.decode()}"' for part in split_txt(key.record))
    return f"{key.record_name}. {ttl_s} IN TXT ( {strings} )"


def now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)  # noqa: TID251 - a command is where time comes in
