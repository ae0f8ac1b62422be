"""Applies one RFC 2136 UPDATE to a zone: all of it or nothing. Knows no sockets and no TSIG.

Its policy is the one to copy for a real primary: only TXT records of ``<selector>._domainkey`` may change.
"""

from collections import defaultdict

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.transaction
import dns.update
import dns.versioned

_KEYS = b"_domainkey"
_ANY = dns.rdataclass.ANY
_NONE = dns.rdataclass.NONE


def apply_update(zone: dns.versioned.Zone, update: dns.update.UpdateMessage) -> dns.rcode.Rcode:
    """Apply an update that was signed with a key that may make it.

    Args:
        zone: absolute names; a new version is made, with a new serial, if anything changes.
        update: its zone section names this zone.

    Returns:
        The rcode of the response (RFC 2136 section 3.8).
    """
    with zone.writer() as transaction:
        rcode = _check_prerequisites(transaction, zone, update) or _check_updates(zone, update)
        if rcode is None:
            for rrset in update.update:
                _apply(transaction, rrset)
            if transaction.changed():
                transaction.update_serial(name=zone.origin)
            return dns.rcode.NOERROR
        transaction.rollback()
        return rcode


def _check_prerequisites(
    transaction: dns.transaction.Transaction, zone: dns.versioned.Zone, update: dns.update.UpdateMessage
) -> dns.rcode.Rcode | None:
    """Check as RFC 2136 section 3.2 says; None is the way on."""
    exact: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], set[dns.rdata.Rdata]] = defaultdict(set)
    for rrset in update.prerequisite:
        if not _is_inside(zone, rrset):
            return dns.rcode.NOTZONE
        if rrset.ttl != 0:
            return dns.rcode.FORMERR
        if rrset.deleting is None:
            exact[rrset.name, rrset.rdtype] |= set(rrset)
        elif rcode := _check_presence(transaction, rrset):
            return rcode
    for (name, rdtype), wanted in exact.items():
        # RFC 2136 section 3.2.3: these and no others must be there; the TTL does not count.
        standing = transaction.get(name, rdtype)
        if standing is None or set(standing) != wanted:
            return dns.rcode.NXRRSET
    return None


def _check_presence(transaction: dns.transaction.Transaction, rrset: dns.rrset.RRset) -> dns.rcode.Rcode | None:
    if rrset.rdtype == dns.rdatatype.ANY:
        exists, missing, unwanted = transaction.name_exists(rrset.name), dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN
    else:
        exists = transaction.get(rrset.name, rrset.rdtype) is not None
        missing, unwanted = dns.rcode.NXRRSET, dns.rcode.YXRRSET
    if rrset.deleting == _ANY:
        return None if exists else missing
    return unwanted if exists else None


def _check_updates(zone: dns.versioned.Zone, update: dns.update.UpdateMessage) -> dns.rcode.Rcode | None:
    """Check who may change what, and the form (RFC 2136 sections 3.3 and 3.4.1); None is the way on."""
    counts: dict[dns.rcode.Rcode, int] = defaultdict(int)
    for rrset in update.update:
        counts[dns.rcode.NOTZONE] += not _is_inside(zone, rrset)
        counts[dns.rcode.FORMERR] += rrset.deleting is not None and rrset.ttl != 0
        counts[dns.rcode.REFUSED] += not _is_key(zone, rrset)
    return next((rcode for rcode in (dns.rcode.NOTZONE, dns.rcode.FORMERR, dns.rcode.REFUSED) if counts[rcode]), None)


def _apply(transaction: dns.transaction.Transaction, rrset: dns.rrset.RRset) -> None:
    """Make one change as RFC 2136 section 3.4.2 says: what is gone already may be deleted again."""
    if rrset.deleting == _ANY:
        transaction.delete(rrset.name, rrset.rdtype)
    elif rrset.deleting == _NONE:
        transaction.delete(rrset.name, rrset.to_rdataset())
    else:
        transaction.add(rrset.name, rrset.to_rdataset())


def _is_inside(zone: dns.versioned.Zone, rrset: dns.rrset.RRset) -> bool:
    return zone.origin is not None and rrset.name.is_subdomain(zone.origin)


def _is_key(zone: dns.versioned.Zone, rrset: dns.rrset.RRset) -> bool:
    relative = rrset.name.relativize(zone.origin or dns.name.root).labels
    return rrset.rdtype == dns.rdatatype.TXT and len(relative) == 2 and relative[1].lower() == _KEYS  # noqa: PLR2004 - <selector>._domainkey
