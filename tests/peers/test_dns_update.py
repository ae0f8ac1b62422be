"""Publication of a key on a real BIND, by signed updates: what it takes, and what becomes of each way to fail."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import pytest

from ptt.core.errors import ConfigError, Unavailable, UpdateRefused
from ptt.demo.dns_primary import DnsPrimary
from ptt.dns.primary import Primary, load_tsig_key
from ptt.dns.update import publish_key_record
from ptt.dns.zone import find_zone
from tests.servers.bind import Bind, running_bind
from tests.servers.ports import free_port
from tests.servers.responder import Respond, running_responder

ZONE = "example.test"
RECORD = f"v=DKIM1; k=rsa; p={'A' * 392}"
OTHER = f"v=DKIM1; k=rsa; p={'B' * 392}"
RECORDS = (
    'foreign._domainkey TXT "v=spf1 -all"',
    'mixed._domainkey TXT "v=DKIM1; p=AAAA"',
    'mixed._domainkey TXT "something else"',
    'double._domainkey TXT "v=DKIM1; p=AAAA"',
    'double._domainkey TXT "v=DKIM1; p=BBBB"',
    "alias._domainkey CNAME elsewhere",
    '*.wild TXT "v=spf1 -all"',
    "child NS ns.child",
    "ns.child A 127.0.0.9",
)


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """Run a primary of a zone with all kinds of records."""
    with running_bind((ZONE, "deep.sub.example.test"), records=RECORDS) as server:
        yield server


@pytest.fixture
def primary(bind: Bind) -> Primary:
    """Give it as ptt knows it."""
    return Primary(address=bind.address, port=bind.port, key=bind.tsig_key)


def name(selector: str, domain: str = ZONE) -> str:
    """Name a key record."""
    return f"{selector}._domainkey.{domain}"


def test_publish_of_a_new_key_adds_its_record(bind: Bind, primary: Primary) -> None:
    """The record is there with its TTL, in strings of at most 255 octets (RFC 6376 section 3.6.2.2)."""
    publish_key_record(primary, name("new"), RECORD, ttl_s=77)
    [rrset] = bind.ask(name("new")).answer
    [rdata] = rrset
    assert rrset.ttl == 77
    assert [len(part) for part in rdata.strings] == [255, len(RECORD) - 255]
    assert bind.get_texts(name("new")) == [RECORD]


@pytest.mark.parametrize("selector", ["replaced", "double"])
def test_publish_over_older_keys_leaves_exactly_the_new_one(bind: Bind, primary: Primary, selector: str) -> None:
    """Two keys under one selector are none: verifiers may take either (RFC 6376 section 3.6.2.2)."""
    publish_key_record(primary, name("replaced"), OTHER, ttl_s=60)
    publish_key_record(primary, name(selector), RECORD, ttl_s=60)
    assert bind.get_texts(name(selector)) == [RECORD]


def test_publish_of_what_is_there_changes_nothing(bind: Bind, primary: Primary) -> None:
    """After a crash the same is published again: the zone's serial, and so every secondary, is left alone."""
    publish_key_record(primary, name("same"), RECORD, ttl_s=60)
    before = bind.ask(ZONE, "SOA").answer[0].to_text()
    publish_key_record(primary, name("same"), RECORD, ttl_s=60)
    assert bind.ask(ZONE, "SOA").answer[0].to_text() == before


@pytest.mark.parametrize("selector", ["foreign", "mixed", "alias"])
def test_publish_over_a_foreign_record_is_refused_and_leaves_it(bind: Bind, primary: Primary, selector: str) -> None:
    """What is no DKIM key belongs to somebody else."""
    before = bind.ask(name(selector)).answer
    with pytest.raises(UpdateRefused, match=r"no DKIM key|alias of another name"):
        publish_key_record(primary, name(selector), RECORD, ttl_s=60)
    assert bind.ask(name(selector)).answer == before


def test_publish_below_a_wildcard_is_not_taken_for_a_foreign_record(bind: Bind, primary: Primary) -> None:
    """A wildcard TXT answers for each name that does not exist (RFC 4592): nothing stands there."""
    assert bind.get_texts(name("s1", "wild.example.test")) == ["v=spf1 -all"]
    with pytest.raises(UpdateRefused, match="REFUSED"):  # the update policy of the test, not the wildcard
        publish_key_record(primary, name("s1", "wild.example.test"), RECORD, ttl_s=60)


def test_publish_of_a_name_outside_the_policy_is_refused(bind: Bind, primary: Primary) -> None:
    """The TSIG key may change DKIM keys and nothing else; the line says whose policy it is."""
    with pytest.raises(UpdateRefused, match=r"127\.0\.0\.1 .*REFUSED: its update policy does not let our TSIG key"):
        publish_key_record(primary, "www.example.test", RECORD, ttl_s=60)
    assert bind.ask("www.example.test").rcode() == dns.rcode.NXDOMAIN


def test_publish_with_a_wrong_secret_is_refused(bind: Bind, primary: Primary) -> None:
    """RFC 8945 section 5.2.2: BADSIG."""
    wrong = replace(primary, key=dns.tsig.Key(bind.key_name, b"x" * 32, bind.algorithm))
    with pytest.raises(UpdateRefused, match="BADSIG: its TSIG secret is not ours"):
        publish_key_record(wrong, name("badsig"), RECORD, ttl_s=60)


@pytest.mark.parametrize(("key_name", "algorithm"), [("other", "hmac-sha256"), ("ptt-key", "hmac-sha512")])
def test_publish_with_an_unknown_key_is_refused(bind: Bind, primary: Primary, key_name: str, algorithm: str) -> None:
    """RFC 8945 section 5.2.1: BADKEY."""
    unknown = replace(primary, key=dns.tsig.Key(key_name, bind.tsig_key.secret, algorithm))
    with pytest.raises(UpdateRefused, match="BADKEY"):
        publish_key_record(unknown, name("badkey"), RECORD, ttl_s=60)


def test_publish_of_a_zone_that_is_not_there_is_refused(primary: Primary) -> None:
    """The primary of another zone is asked: the settings are wrong."""
    with pytest.raises(UpdateRefused, match="not authoritative for any zone of s1"):
        publish_key_record(primary, name("s1", "other.test"), RECORD, ttl_s=60)


def test_publish_below_a_delegation_is_refused(primary: Primary) -> None:
    """A referral is no authority: the child zone has a primary of its own."""
    with pytest.raises(UpdateRefused, match="delegated"):
        publish_key_record(primary, name("s1", "child.example.test"), RECORD, ttl_s=60)


def test_update_of_a_name_outside_the_zone_gives_notzone(primary: Primary) -> None:
    """RFC 2136 section 3.1.2 and 3.4.1.3."""
    update = dns.update.UpdateMessage(ZONE)
    update.add(dns.name.from_text("s1._domainkey.other.test"), 60, "TXT", "x")
    with pytest.raises(UpdateRefused, match="NOTZONE: the name is not in the zone"):
        primary.update(update)


def test_update_of_a_foreign_zone_gives_notauth(primary: Primary) -> None:
    """RFC 2136 section 3.1.2."""
    with pytest.raises(UpdateRefused, match="NOTAUTH: it is not the primary of this zone"):
        primary.update(dns.update.UpdateMessage("other.test"))


@pytest.mark.parametrize(
    ("domain", "zone"),
    [
        ("example.test", "example.test."),
        ("a.b.example.test", "example.test."),
        ("x.deep.sub.example.test", "deep.sub.example.test."),
    ],
)
def test_find_zone_gives_the_nearest_zone_of_the_primary(primary: Primary, domain: str, zone: str) -> None:
    """A name belongs to the zone with the longest name above it (RFC 1034 section 4.2)."""
    assert find_zone(primary, dns.name.from_text(name("s1", domain))) == dns.name.from_text(zone)


def test_publish_while_the_primary_is_down_is_temporary(primary: Primary) -> None:
    """Nobody listens: trying again later may help, and the line says whom was asked."""
    down = replace(primary, port=free_port())
    with pytest.raises(Unavailable, match=rf"127\.0\.0\.1 port {down.port} cannot be asked"):
        publish_key_record(down, name("down"), RECORD, ttl_s=60)


def test_publish_to_a_silent_primary_is_temporary(primary: Primary) -> None:
    """A primary that never answers does not hold the program."""
    with running_responder("127.0.0.1", port := free_port(), lambda _request, _is_tcp: None):
        silent = replace(primary, port=port, timeout_s=0.1)
        with pytest.raises(Unavailable, match=r"did not reply within 0\.1 s"):
            publish_key_record(silent, name("silent"), RECORD, ttl_s=60)


def answer_with(key: dns.tsig.Key, rcode: dns.rcode.Rcode, *, tsig_error: int = 0, signed: bool = True) -> Respond:
    """Make a primary that finds each zone and answers updates like this."""

    def respond(request: bytes, _is_tcp: bool) -> bytes:  # noqa: FBT001 - the hook of a responder
        query = dns.message.from_wire(request, keyring=key)
        reply = dns.message.make_response(query)
        if isinstance(query, dns.update.UpdateMessage):
            reply.set_rcode(rcode)
            reply.tsig = None
            reply.want_tsig_sign = False
            if signed:
                reply.use_tsig(key, tsig_error=tsig_error)
                reply.request_mac = query.mac or b""
        else:
            reply.flags |= dns.flags.AA
            reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "SOA", "a. b. 1 1 1 1 1"))
        return reply.to_wire()

    return respond


@pytest.mark.parametrize(
    ("rcode", "tsig_error", "kind", "reason"),
    [
        (dns.rcode.SERVFAIL, 0, Unavailable, "SERVFAIL"),
        (dns.rcode.NOTIMP, 0, UpdateRefused, "NOTIMP: it does not take updates"),
        (dns.rcode.FORMERR, 0, UpdateRefused, "FORMERR"),
        (dns.rcode.NXRRSET, 0, UpdateRefused, "NXRRSET: somebody else changed the record"),
        (dns.rcode.NXDOMAIN, 0, UpdateRefused, "NXDOMAIN"),
        (dns.rcode.NOTAUTH, dns.rcode.BADTIME, UpdateRefused, "BADTIME: its clock and ours"),
        (dns.rcode.NOTAUTH, dns.rcode.BADTRUNC, UpdateRefused, "BADTRUNC"),
    ],
)
def test_publish_with_any_answer_gives_one_clear_line(
    primary: Primary, rcode: dns.rcode.Rcode, tsig_error: int, kind: type[Exception], reason: str
) -> None:
    """Every rcode is looked at: nothing but NOERROR is a success (RFC 2136 section 2.2, RFC 8945 section 5.3)."""
    respond = answer_with(primary.key, rcode, tsig_error=tsig_error)
    with (
        running_responder("127.0.0.1", port := free_port(), respond),
        pytest.raises(kind, match=reason) as caught,
    ):
        publish_key_record(replace(primary, port=port), name("s1"), RECORD, ttl_s=60)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rcode", "text"),
    [
        (dns.rcode.NOERROR, "NOERROR"),
        (dns.rcode.SERVFAIL, "SERVFAIL"),
        (dns.rcode.REFUSED, "REFUSED: its update policy does not let our TSIG key change this name"),
        (dns.rcode.NOTAUTH, "NOTAUTH: it is not the primary of this zone, or does not know our TSIG key"),
    ],
)
def test_publish_with_a_reply_that_is_not_signed_is_no_success(
    primary: Primary, rcode: dns.rcode.Rcode, text: str
) -> None:
    """Such a reply may be anybody's (RFC 8945 section 5.3): what it says is told and changes nothing."""
    respond = answer_with(primary.key, rcode, signed=False)
    with (
        running_responder("127.0.0.1", port := free_port(), respond),
        pytest.raises(UpdateRefused, match=f"gave a reply that is not signed; it says {text}$"),
    ):
        publish_key_record(replace(primary, port=port), name("s1"), RECORD, ttl_s=60)


@pytest.mark.parametrize("spoil", [lambda wire: wire[:20], lambda wire: b"\0\0" + wire[2:]], ids=["cut", "other id"])
def test_publish_with_a_reply_that_is_none_of_ours_is_refused(
    primary: Primary, spoil: Callable[[bytes], bytes]
) -> None:
    """Neither what cannot be read nor what answers another question has an rcode that is worth telling."""
    answer = answer_with(primary.key, dns.rcode.NOTAUTH, signed=False)
    with (
        running_responder("127.0.0.1", port := free_port(), lambda wire, is_tcp: spoil(answer(wire, is_tcp) or b"")),
        pytest.raises(UpdateRefused, match="gave a reply that is not understood"),
    ):
        replace(primary, port=port).update(dns.update.UpdateMessage(ZONE, id=7))


def test_publish_with_a_reply_signed_by_another_secret_is_refused(primary: Primary) -> None:
    """Who does not know the secret cannot make us believe that the key is published (RFC 8945 section 5.3)."""
    other = dns.tsig.Key(primary.key.name, b"y" * 32, primary.key.algorithm)
    genuine = answer_with(primary.key, dns.rcode.NOERROR)

    def respond(request: bytes, is_tcp: bool) -> bytes | None:  # noqa: FBT001 - the hook of a responder
        query = dns.message.from_wire(request, keyring=primary.key)
        if not isinstance(query, dns.update.UpdateMessage):
            return genuine(request, is_tcp)
        reply = dns.message.make_response(query)
        reply.use_tsig(other)
        reply.request_mac = query.mac or b""
        return reply.to_wire()

    with (
        running_responder("127.0.0.1", port := free_port(), respond),
        pytest.raises(UpdateRefused, match="TSIG signature of its reply is wrong"),
    ):
        publish_key_record(replace(primary, port=port), name("s1"), RECORD, ttl_s=60)


def test_publish_after_a_servfail_succeeds(bind: Bind, primary: Primary) -> None:
    """A primary that restarts just now is asked again after a moment."""
    failures = [dns.rcode.SERVFAIL]
    failing = answer_with(primary.key, dns.rcode.SERVFAIL)

    def respond(request: bytes, is_tcp: bool) -> bytes | None:  # noqa: FBT001 - the hook of a responder
        opcode = dns.message.from_wire(request, keyring=primary.key).opcode()
        if opcode == dns.opcode.UPDATE and failures:
            failures.pop()
            return failing(request, is_tcp)
        return bind.forward(request, is_tcp)

    with running_responder("127.0.0.1", port := free_port(), respond):
        publish_key_record(replace(primary, port=port), name("again"), RECORD, ttl_s=60)
    assert bind.get_texts(name("again")) == [RECORD]


def test_publish_whose_reply_was_lost_is_found_done(bind: Bind, primary: Primary) -> None:
    """The update was made and the connection cut: the second attempt finds its own record."""
    lost = [True]

    def respond(request: bytes, is_tcp: bool) -> bytes | None:  # noqa: FBT001 - the hook of a responder
        reply = bind.forward(request, is_tcp)
        opcode = dns.message.from_wire(request, keyring=primary.key).opcode()
        return None if opcode == dns.opcode.UPDATE and lost and lost.pop() else reply

    with running_responder("127.0.0.1", port := free_port(), respond):
        publish_key_record(replace(primary, port=port, timeout_s=2), name("lost"), RECORD, ttl_s=60)
    assert bind.get_texts(name("lost")) == [RECORD]


def test_publish_on_the_demonstrations_primary_succeeds() -> None:
    """The primary of `ptt demo` speaks the same protocol."""
    key = dns.tsig.Key("ptt", b"k" * 32, "hmac-sha256")
    demo = DnsPrimary({"demo.test": "$TTL 60\n@ SOA ns1 h 1 3600 600 86400 30\n@ NS ns1\nns1 A 127.0.0.1\n"}, key)
    with running_responder("127.0.0.1", port := free_port(), lambda wire, _is_tcp: demo.respond(wire, 65535)):
        primary = Primary(address="127.0.0.1", port=port, key=key)
        for record in (OTHER, RECORD, RECORD):
            publish_key_record(primary, name("s1", "demo.test"), record, ttl_s=60)
        reply = primary.query(dns.name.from_text(name("s1", "demo.test")), dns.rdatatype.TXT)
    assert [b"".join(rdata.strings).decode() for rrset in reply.answer for rdata in rrset] == [RECORD]


def test_primary_in_text_shows_no_secret(primary: Primary) -> None:
    """dnspython prints the secret of a key; ours must not get into a log."""  # noqa: D403 - a name
    assert "secret" not in repr(primary)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"not base64!", "not base64"), (b"\xff", "not base64"), (b"\n", "empty"), (None, "No such")],
)
def test_load_tsig_key_of_a_bad_file_names_it(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """The line has file, key and reason."""
    path = tmp_path / "tsig"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"tsig: dns_update.tsig_secret_file: {reason}"):
        load_tsig_key("ptt", path, "hmac-sha256")
