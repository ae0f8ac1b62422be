"""What ``ptt key publish`` does for keys that were published before: it puts back the records that are missing."""

from collections.abc import Sequence

import click

from ptt.cli.key_record import format_zone_line, now
from ptt.core.address import Domain
from ptt.core.errors import UpdateRefused
from ptt.dns.zone import Lag
from ptt.signing.key_files import KeyState
from ptt.signing.keys import SigningKey
from ptt.workers.rotation import KeyLife


def find_missing(life: KeyLife, domain: Domain) -> Sequence[SigningKey]:
    """Give the keys in use that are suspended, or that some authoritative server does not answer.

    In use is what signs, and what retires while signatures made with it are valid.

    Raises:
        Unavailable: the servers cannot be found now.
        UpdateRefused: the primary has no zone of the domain.
    """
    in_use = [key for key in life.list_usable(domain) if _is_in_use(life, key)]
    return [key for key in in_use if key.status.problem or life.publisher.find_lags(key)]


def restore_records(life: KeyLife, missing: Sequence[SigningKey]) -> tuple[list[str], list[str]]:
    """Publish each record that is missing again, never over another one; let suspended keys sign again.

    Returns:
        One line for each record that was refused, and one for each server that lags behind.

    Raises:
        Unavailable: the primary or the servers cannot be asked now.
    """
    refused, lagging = [], []
    for key in missing:
        try:
            lags = _restore(life, key)
        except UpdateRefused as error:
            refused.append(f"{error}; `ptt key rotate {key.domain}` puts new keys in the place of those that sign")
        else:
            lagging += [f"{key.record_name} is not in place: {lag}" for lag in lags]
    return refused, lagging


def _is_in_use(life: KeyLife, key: SigningKey) -> bool:
    if key.status.state is KeyState.RETIRING:
        return key.status.revoked_at is None and not life.is_over(key)
    return key.status.state is KeyState.ACTIVE


def _restore(life: KeyLife, key: SigningKey) -> Sequence[Lag]:
    publisher = life.publisher
    lags = publisher.find_lags(key)
    if any(lag.is_wrong for lag in lags):
        # What stands there instead was not made by us: nobody has looked whose it is.
        publisher.send(key, at=now(), is_new=True)
        if publisher.primary:
            click.echo(f"published {key.record_name} again on {publisher.primary}")
        else:
            click.echo(f"Put this record into the zone:\n\n{format_zone_line(key, publisher.ttl_s)}\n")
        lags = publisher.find_lags(key, wait_s=life.wait_s)
    if not lags and key.status.problem:
        publisher.resume(key)
        click.echo(f"active {key.record_name}: all authoritative servers answer it")
    return lags
