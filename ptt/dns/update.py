"""Publishes, revokes and removes one TXT record by a signed update, exactly this record and nothing beside it.

Records that are no DKIM key are somebody else's: they are not overwritten. RFC 2136, RFC 6376 section 3.6.2.
"""

from collections.abc import Callable
from functools import partial

import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.update
import tenacity
from dns.rdtypes.ANY.TXT import TXT

from ptt.core.domain_policy import is_revoked
from ptt.core.errors import Unavailable, UpdateRefused
from ptt.core.signature import format_revoked, is_key_record, split_txt
from ptt.dns.primary import Primary
from ptt.dns.zone import find_zone


def publish_key_record(primary: Primary, name: str, text: str, *, ttl_s: int, is_new: bool = False) -> None:
    """Make the primary hold exactly this record; does nothing if it does already.

    Args:
        primary: the server to update.
        name: full name of the record.
        text: of any length; it is sent in strings of 255 octets.
        ttl_s: time to live, seconds.
        is_new: whether to refuse also the place of another key: nobody has looked whose it is.

    Raises:
        Unavailable: the primary does not answer, or answers SERVFAIL, after ``primary.attempts``.
        UpdateRefused: the primary says no, or something stands there that must not be replaced.
    """
    owner, rdata = dns.name.from_text(name), _make_rdata(text)
    _try_often(primary, partial(_publish_once, primary, owner, rdata, ttl_s=ttl_s, is_new=is_new))


def revoke_key_record(primary: Primary, name: str, text: str, *, ttl_s: int) -> None:
    """Put a record with an empty ``p=`` in the place of this key: what it signed is to be believed no more.

    Does nothing if no record, or another one, stands there. RFC 6376 section 3.6.1.

    Raises:
        Unavailable: as `publish_key_record`.
        UpdateRefused: the primary says no.
    """
    owner, revoked = dns.name.from_text(name), _make_rdata(format_revoked(text))
    zone_update = partial(_update_exactly, primary, owner, _make_rdata(text))
    _try_often(primary, partial(zone_update, lambda update: update.replace(owner, ttl_s, revoked)))


def remove_key_record(primary: Primary, name: str, text: str) -> None:
    """Remove exactly this record; does nothing if no record, or another one, stands there.

    Raises:
        Unavailable: as `publish_key_record`.
        UpdateRefused: the primary says no.
    """
    owner, rdata = dns.name.from_text(name), _make_rdata(text)
    _try_often(primary, partial(_update_exactly, primary, owner, rdata, lambda update: update.delete(owner, rdata)))


def _make_rdata(text: str) -> TXT:
    return TXT(dns.rdataclass.IN, dns.rdatatype.TXT, split_txt(text))


def _read_text(rdata: TXT) -> str:
    return b"".join(rdata.strings).decode("ascii", "replace")


def _try_often(primary: Primary, act: Callable[[], None]) -> None:
    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        stop=tenacity.stop_after_attempt(primary.attempts),
        wait=tenacity.wait_exponential(multiplier=0.25),
        reraise=True,
    )(act)


def _publish_once(primary: Primary, owner: dns.name.Name, rdata: TXT, *, ttl_s: int, is_new: bool) -> None:
    zone = find_zone(primary, owner)
    update = dns.update.UpdateMessage(zone)
    # RFC 2136 section 2.4.3: these must not exist. Asking first would find the records of a wildcard, too.
    update.absent(owner, dns.rdatatype.TXT)
    update.absent(owner, dns.rdatatype.CNAME)
    update.add(owner, ttl_s, rdata)
    if primary.update(update, allowed=frozenset({dns.rcode.YXRRSET})) != dns.rcode.NOERROR:
        standing = _read_standing(primary, owner)
        if standing == [rdata]:
            return
        # RFC 6376 section 3.6.1: whoever emptied p= has declared the key void, maybe one of ours whose state is lost.
        if any(is_revoked(_read_text(found)) for found in standing):
            raise UpdateRefused(f"{owner} is declared void, its p= is empty: make another key, or remove the record")
        if is_new:
            raise UpdateRefused(f"{owner} has another key already: somebody else uses this selector")
        update = dns.update.UpdateMessage(zone)
        # RFC 2136 section 2.4.2: exactly these must be there still, so that nothing else is ever deleted.
        update.present(owner, *standing)
        update.replace(owner, ttl_s, rdata)
        primary.update(update)
    # Observed with PowerDNS 4.7: what its policy does not allow is left out, and the reply is NOERROR.
    if _read_standing(primary, owner) != [rdata]:
        raise UpdateRefused(f"{primary} says that {owner} is done, and does not have it: look at its update policy")


def _update_exactly(
    primary: Primary, owner: dns.name.Name, rdata: TXT, change: Callable[[dns.update.UpdateMessage], None]
) -> None:
    update = dns.update.UpdateMessage(find_zone(primary, owner))
    # RFC 2136 section 2.4.2: what somebody else has put there meanwhile is not ours to remove.
    update.present(owner, rdata)
    change(update)
    primary.update(update, allowed=frozenset({dns.rcode.NXRRSET}))


def _read_standing(primary: Primary, owner: dns.name.Name) -> list[TXT]:
    reply = primary.query(owner, dns.rdatatype.TXT)
    records = [rdata for rrset in reply.answer if rrset.name == owner for rdata in rrset]
    for rdata in records:
        if not isinstance(rdata, TXT):
            raise UpdateRefused(f"{owner} is an alias of another name: remove the CNAME record first")
        if not is_key_record(_read_text(rdata)):
            raise UpdateRefused(f"{owner} has a TXT record that is no DKIM key: {rdata.to_text()}")
    return records
