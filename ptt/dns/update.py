"""Publishes one TXT record by a signed update: exactly this record, in the place of an older key of the same name.

Records that are no DKIM key are somebody else's: they are not overwritten. RFC 2136, RFC 6376 section 3.6.2.
"""

import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.update
import tenacity

from ptt.core.errors import Unavailable, UpdateRefused
from ptt.core.signature import is_key_record, split_txt
from ptt.dns.primary import Primary
from ptt.dns.zone import find_zone

ATTEMPTS = 4
"""How often an update is tried when the primary does not answer; the pauses are 0.25, 0.5 and 1 s."""


def publish_key_record(primary: Primary, name: str, text: str, *, ttl_s: int) -> None:
    """Make the primary hold exactly this record; does nothing if it does already.

    Args:
        primary: the server to update.
        name: full name of the record.
        text: of any length; it is sent in strings of 255 octets.
        ttl_s: time to live, seconds.

    Raises:
        Unavailable: the primary does not answer, or answers SERVFAIL, after several attempts.
        UpdateRefused: the primary says no, or something stands there that is no DKIM key.
    """
    owner = dns.name.from_text(name)
    rdata = dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, split_txt(text))
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=0.25),
        reraise=True,
    ):
        with attempt:
            _publish_once(primary, owner, rdata, ttl_s)


def _publish_once(primary: Primary, owner: dns.name.Name, rdata: dns.rdtypes.ANY.TXT.TXT, ttl_s: int) -> None:
    zone = find_zone(primary, owner)
    update = dns.update.UpdateMessage(zone)
    # RFC 2136 section 2.4.3: these must not exist. Asking first would find the records of a wildcard, too.
    update.absent(owner, dns.rdatatype.TXT)
    update.absent(owner, dns.rdatatype.CNAME)
    update.add(owner, ttl_s, rdata)
    if primary.update(update, allowed=frozenset({dns.rcode.YXRRSET})) == dns.rcode.NOERROR:
        return
    standing = _read_standing(primary, owner)
    if standing == [rdata]:
        return
    update = dns.update.UpdateMessage(zone)
    # RFC 2136 section 2.4.2: exactly these must be there still, so that nothing else is ever deleted.
    update.present(owner, *standing)
    update.replace(owner, ttl_s, rdata)
    primary.update(update)


def _read_standing(primary: Primary, owner: dns.name.Name) -> list[dns.rdtypes.ANY.TXT.TXT]:
    reply = primary.query(owner, dns.rdatatype.TXT)
    records = [rdata for rrset in reply.answer if rrset.name == owner for rdata in rrset]
    for rdata in records:
        if not isinstance(rdata, dns.rdtypes.ANY.TXT.TXT):
            raise UpdateRefused(f"{owner} is an alias of another name: remove the CNAME record first")
        if not is_key_record(b"".join(rdata.strings).decode("ascii", "replace")):
            raise UpdateRefused(f"{owner} has a TXT record that is no DKIM key: {rdata.to_text()}")
    return records
