"""BIND, Knot DNS and PowerDNS with the sample policies of ops/dns/: keys are published, nothing else can be changed."""

from collections.abc import Iterator
from itertools import product

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.tsig
import dns.update
import pytest

from ptt.core.errors import UpdateRefused
from ptt.dns.primary import Primary
from ptt.dns.update import publish_key_record, remove_key_record, revoke_key_record
from tests.servers.dns_primary import PRIMARIES, DnsPlace, running_primary

ZONE = "example.test"
RECORD = f"v=DKIM1; k=rsa; p={'A' * 392}"
OTHER = f"v=DKIM1; k=rsa; p={'B' * 392}"
RECORDS = (
    'foreign._domainkey TXT "v=spf1 -all"',
    "alias._domainkey CNAME elsewhere",
    '@ TXT "v=spf1 mx -all"',
    "@ MX 10 mail",
    "mail A 127.0.0.9",
    "www A 127.0.0.8",
    '_dmarc TXT "v=DMARC1; p=reject"',
    "s0._domainkey SRV 1 1 25 mail",
)
VALUES = {
    "A": "192.0.2.1",
    "AAAA": "2001:db8::1",
    "MX": "5 evil.example.",
    "TXT": '"v=spf1 +all"',
    "NS": "evil.example.",
    "SSHFP": "1 1 " + "00" * 20,
    "CAA": '0 issue "evil.example"',
    "TLSA": "3 1 1 " + "00" * 32,
}
OUTSIDE = ("@", "www", "mail", "_dmarc", "_domainkey", "s1.domainkey", "s1._domainkey.sub", "*")
REFUSALS = {"bind": "REFUSED", "knot": "BADKEY", "powerdns": "NOERROR"}
"""What the servers answer to a change that their policy does not allow; PowerDNS leaves it out in silence."""


@pytest.fixture(scope="module", params=PRIMARIES)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, DnsPlace]]:
    """Run each server in turn, with its sample policy."""
    with running_primary(PRIMARIES[request.param], ZONE, RECORDS) as place:
        yield request.param, place


@pytest.fixture
def place(server: tuple[str, DnsPlace]) -> DnsPlace:
    """Give where it runs."""
    return server[1]


@pytest.fixture
def primary(place: DnsPlace) -> Primary:
    """Give it as ptt knows it."""
    return Primary(address="127.0.0.1", port=place.port, key=place.tsig_key)


def name(selector: str) -> str:
    """Name a key record."""
    return f"{selector}._domainkey.{ZONE}"


def test_key_is_published_replaced_revoked_and_removed(place: DnsPlace, primary: Primary) -> None:
    """There is one record at most at any time, whole although it is longer than one string."""
    for record in (RECORD, RECORD, OTHER):
        publish_key_record(primary, name("life"), record, ttl_s=77)
        assert place.get_texts(name("life")) == [record]
    assert place.ask(name("life")).answer[0].ttl == 77
    with pytest.raises(UpdateRefused, match="somebody else uses this selector"):
        publish_key_record(primary, name("life"), RECORD, ttl_s=77, is_new=True)
    revoke_key_record(primary, name("life"), RECORD, ttl_s=77)
    assert place.get_texts(name("life")) == [OTHER]  # it is another key: not touched
    revoke_key_record(primary, name("life"), OTHER, ttl_s=77)
    assert place.get_texts(name("life")) == ["v=DKIM1; k=rsa; p="]
    remove_key_record(primary, name("life"), OTHER)
    assert place.get_texts(name("life")) == ["v=DKIM1; k=rsa; p="]
    remove_key_record(primary, name("life"), "v=DKIM1; k=rsa; p=")
    assert place.get_texts(name("life")) == []
    remove_key_record(primary, name("life"), RECORD)


@pytest.mark.parametrize("selector", ["foreign", "alias"])
def test_what_is_no_key_is_left_alone(place: DnsPlace, primary: Primary, selector: str) -> None:
    """It belongs to somebody else."""
    before = place.ask(name(selector), "ANY" if selector == "foreign" else "CNAME").answer
    with pytest.raises(UpdateRefused, match=r"no DKIM key|alias of another name"):
        publish_key_record(primary, name(selector), RECORD, ttl_s=60)
    assert place.ask(name(selector), "ANY" if selector == "foreign" else "CNAME").answer == before


def test_publish_outside_of_the_policy_is_never_taken_for_done(primary: Primary) -> None:
    """Whatever the server answers, the operator hears that its policy is in the way."""
    with pytest.raises(UpdateRefused, match=r"REFUSED: its update policy|does not let it change|look at its update"):
        publish_key_record(primary, f"www.{ZONE}", RECORD, ttl_s=60)


def test_publish_for_a_zone_that_the_primary_does_not_have_says_so(primary: Primary) -> None:
    """Each server says it in its way, Knot DNS without a signature; the operator reads what is wrong in all of them."""
    with pytest.raises(
        UpdateRefused, match=r"not authoritative|not signed; it says REFUSED: it does not have this zone"
    ):
        publish_key_record(primary, "s1._domainkey.elsewhere.test", RECORD, ttl_s=60)


@pytest.mark.parametrize("secret", [b"x" * 32, b""])
def test_update_without_the_secret_changes_nothing(server: tuple[str, DnsPlace], secret: bytes) -> None:
    """A wrong signature, and none at all."""
    kind, place = server
    update = dns.update.UpdateMessage(ZONE)
    update.add(dns.name.from_text(name("nosecret")), 60, "TXT", '"v=DKIM1; p=AAAA"')
    if secret:
        update.use_tsig(dns.tsig.Key(place.tsig_key.name, secret, place.tsig_key.algorithm))
    assert send(place, update) in {"REFUSED", "NOTAUTH", "BADSIG", "not signed", REFUSALS[kind]}
    assert place.get_texts(name("nosecret")) == []


def send(place: DnsPlace, update: dns.update.UpdateMessage) -> str:
    """Send an update and give the rcode, or what the TSIG record of the reply says."""
    try:
        reply = dns.query.tcp(update, "127.0.0.1", timeout=30, port=place.port)
    except dns.tsig.PeerBadKey:
        return "BADKEY"
    except dns.tsig.PeerBadSignature:
        return "BADSIG"
    except dns.exception.FormError:
        return "not signed"
    return dns.rcode.to_text(reply.rcode())


def list_probes() -> Iterator[tuple[str, str, str]]:
    """Give owner, type and how: what the TSIG key of ptt must not be able to do."""
    for owner, rdtype, how in product(OUTSIDE, VALUES, ("add", "delete")):
        yield owner, rdtype, how
    for rdtype in VALUES.keys() - {"TXT"}:
        yield "s0._domainkey", rdtype, "add"
        yield "s0._domainkey", rdtype, "delete"
    yield from ((owner, "ANY", "delete") for owner in ("@", "mail", "s0._domainkey"))


def test_leaked_tsig_key_changes_nothing_but_keys(server: tuple[str, DnsPlace]) -> None:
    """E10: more than a hundred changes of addresses, MX, SPF, DMARC, delegations: none is done."""
    kind, place = server
    probes = list(list_probes())
    before = read_zone(place)
    answers = {probe: send(place, make_probe(place, *probe)) for probe in probes}
    assert len(probes) > 100
    assert {probe: answer for probe, answer in answers.items() if answer != REFUSALS[kind]} == {}
    assert read_zone(place) == before


def make_probe(place: DnsPlace, owner: str, rdtype: str, how: str) -> dns.update.UpdateMessage:
    """Make an update, signed with the true secret."""
    update = dns.update.UpdateMessage(ZONE, keyring=place.tsig_key)
    absolute = dns.name.from_text(owner, dns.name.from_text(ZONE))
    if how == "add":
        update.add(absolute, 60, rdtype, VALUES[rdtype])
    elif rdtype == "ANY":
        update.delete(absolute)
    else:
        update.delete(absolute, rdtype)
    return update


def read_zone(place: DnsPlace) -> dict[tuple[str, str], list[str]]:
    """Read all that the probes might change; the serial of the zone, too."""
    names = {str(dns.name.from_text(owner, dns.name.from_text(ZONE))) for owner in (*OUTSIDE, "s0._domainkey")}
    questions = [*product(sorted(names), VALUES), (ZONE, "SOA")]
    return {
        (owner, rdtype): sorted(rrset.to_text() for rrset in place.ask(owner, rdtype).answer)
        for owner, rdtype in questions
    }
