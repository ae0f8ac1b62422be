"""The demonstration's DNS primary, asked by dnspython, dig and nsupdate."""

import asyncio
import base64
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
import pytest
import pytest_asyncio
from dns.rdataclass import ANY
from dns.rdtypes.ANY.TSIG import TSIG

from ptt.demo.dns_primary import DnsPrimary, DnsServer
from tests.servers.ports import free_port

ZONE = """\
$TTL 60
@ SOA ns1 hostmaster 1 3600 600 86400 30
@ NS ns1
@ MX 10 mail
ns1 A 127.0.0.2
mail A 127.0.0.1
alias CNAME mail
deep.below A 127.0.0.4
old._domainkey TXT "v=DKIM1; p=AAAA"
"""
SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
KEY = dns.tsig.Key("ptt.", SECRET, "hmac-sha256")
Change = tuple[str | int, ...]
NOTHING: Mapping[str, str] = MappingProxyType({})
OWNER = "new._domainkey.example.test."


@dataclass(frozen=True, slots=True)
class Running:
    """A running primary."""

    primary: DnsPrimary
    port: int

    async def ask(self, message: dns.message.Message, *, tcp: bool = True) -> dns.message.Message:
        """Send a message and give the response, verified if it was signed."""
        exchange = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await exchange(message, "127.0.0.1", port=self.port, timeout=30)

    async def query(self, name: str, rdtype: str = "TXT", *, tcp: bool = False) -> dns.message.Message:
        """Ask for records."""
        return await self.ask(dns.message.make_query(name, rdtype), tcp=tcp)

    async def update(
        self, *changes: Change, wanted: Mapping[str, str] = NOTHING, key: dns.tsig.Key | None = KEY
    ) -> str:
        """Send an update and give the rcode; ``present`` and ``absent`` name an owner and a type or record."""
        update = dns.update.UpdateMessage("example.test.", keyring=key)
        for kind, text in wanted.items():
            getattr(update, kind)(*text.split(maxsplit=2))
        for change in changes:
            getattr(update, str(change[0]))(*change[1:])
        return dns.rcode.to_text((await self.ask(update)).rcode())


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Running]:
    """Run a primary for example.test."""
    primary = DnsPrimary({"example.test.": ZONE}, KEY)
    listener = DnsServer(primary)
    yield Running(primary, await listener.start("127.0.0.1", free_port()))
    listener.stop()


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode", "answers"),
    [
        ("example.test.", "MX", "NOERROR", ["10 mail.example.test."]),
        ("EXAMPLE.test.", "NS", "NOERROR", ["ns1.example.test."]),
        ("alias.example.test.", "A", "NOERROR", ["mail.example.test."]),
        ("mail.example.test.", "AAAA", "NOERROR", []),
        ("below.example.test.", "A", "NOERROR", []),
        ("none.example.test.", "A", "NXDOMAIN", []),
        ("other.test.", "A", "REFUSED", []),
        ("example.test.", "AXFR", "REFUSED", []),
    ],
)
async def test_dns_primary_query_case_gives_answer(
    server: Running, name: str, rdtype: str, rcode: str, answers: list[str]
) -> None:
    """RFC 1034 section 4.3.2; what is not there comes with the SOA that says for how long (RFC 2308)."""
    query = dns.message.make_query(name, "A" if rdtype == "AXFR" else rdtype)
    if rdtype == "AXFR":
        query.question[0].rdtype = dns.rdatatype.AXFR
    response = await server.ask(query)
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert [str(rdata).lower() for rrset in response.answer for rdata in rrset] == answers
    if rcode != "REFUSED":
        assert response.flags & dns.flags.AA
        assert bool(answers) != bool(response.authority)


async def test_dns_primary_update_publishes_replaces_and_deletes(server: Running) -> None:
    """A signed update is there at once, over UDP and TCP, with a new serial; deleting twice is no error."""
    assert await server.update(("add", OWNER, 60, "TXT", '"one"'), wanted={"absent": f"{OWNER} TXT"}) == "NOERROR"
    assert (
        await server.update(("replace", OWNER, 60, "TXT", '"two"'), wanted={"present": f'{OWNER} TXT "one"'})
        == "NOERROR"
    )
    for tcp in (False, True):
        assert [str(r) for r in (await server.query(OWNER, tcp=tcp)).answer[0]] == ['"two"']
    assert (await server.query("example.test.", "SOA")).answer[0][0].serial == 3
    for _ in range(2):
        assert await server.update(("delete", OWNER, "TXT")) == "NOERROR"
    assert (await server.query(OWNER)).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("wanted", "rcode"),
    [
        ({"absent": "old._domainkey.example.test. TXT"}, "YXRRSET"),
        ({"absent": "mail.example.test."}, "YXDOMAIN"),
        ({"present": f"{OWNER} TXT"}, "NXRRSET"),
        ({"present": OWNER}, "NXDOMAIN"),
        ({"present": 'old._domainkey.example.test. TXT "other"'}, "NXRRSET"),
        ({"present": "mail.other.test."}, "NOTZONE"),
        ({"present": "mail.example.test.", "absent": f"{OWNER} TXT"}, "NOERROR"),
    ],
)
async def test_dns_primary_prerequisite_case_decides(server: Running, wanted: dict[str, str], rcode: str) -> None:
    """RFC 2136 section 3.2: nothing is changed unless all that was asked for holds."""
    assert await server.update(("add", OWNER, 60, "TXT", '"x"'), wanted=wanted) == rcode
    assert bool((await server.query(OWNER)).answer) == (rcode == "NOERROR")


@pytest.mark.parametrize(
    "change",
    [
        ("add", "mail.example.test.", 60, "A", "192.0.2.1"),
        ("add", "example.test.", 60, "TXT", '"v=spf1 +all"'),
        ("delete", "example.test.", "MX"),
        ("add", "_domainkey.example.test.", 60, "TXT", '"x"'),
        ("add", OWNER, 60, "CNAME", "mail"),
        ("delete", "old._domainkey.example.test."),
    ],
)
async def test_dns_primary_update_of_other_records_is_refused(server: Running, change: Change) -> None:
    """The key may change TXT records of selectors and nothing else, and a part that is allowed is not done alone."""
    assert await server.update(("add", OWNER, 60, "TXT", '"x"'), change) == "REFUSED"
    assert not (await server.query(OWNER)).answer


async def test_dns_primary_unsigned_update_is_refused(server: Running) -> None:
    """Who does not sign may change nothing."""
    assert await server.update(("add", OWNER, 60, "TXT", '"x"'), key=None) == "REFUSED"
    assert [(update.signer, update.rcode) for update in server.primary.updates] == [("", "REFUSED")]


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (dns.tsig.Key("other.", SECRET, "hmac-sha256"), dns.tsig.PeerBadKey),
        (dns.tsig.Key("ptt.", SECRET, "hmac-sha512"), dns.tsig.PeerBadKey),
        (dns.tsig.Key("ptt.", base64.b64encode(b"wrong").decode(), "hmac-sha256"), dns.tsig.PeerBadSignature),
    ],
)
async def test_dns_primary_wrong_signature_is_told(server: Running, key: dns.tsig.Key, error: type[Exception]) -> None:
    """RFC 8945 section 5.2: the reply says whether the key or the signature is wrong."""
    with pytest.raises(error):
        await server.update(("add", OWNER, 60, "TXT", '"x"'), key=key)
    assert not (await server.query(OWNER)).answer


async def test_dns_primary_old_signature_is_told_with_our_time(server: Running) -> None:
    """RFC 8945 section 5.2.3: a message signed ten minutes ago is not taken, and the reply is signed."""
    update = dns.update.UpdateMessage("example.test.")
    blank = TSIG(ANY, dns.rdatatype.TSIG, KEY.algorithm, 0, 300, b"", update.id, 0, b"")  # type: ignore[no-untyped-call]
    signature, _ = dns.tsig.sign(update.to_wire(), KEY, blank, time=int(time.time()) - 600)  # type: ignore[no-untyped-call]
    update.tsig = dns.rrset.from_rdata(KEY.name, 0, signature)
    reply = server.primary.respond(update.to_wire(), 65_535)
    assert reply is not None
    response = dns.message.from_wire(reply, keyring=False)
    assert (response.rcode(), response.tsig_error) == (dns.rcode.NOTAUTH, dns.rcode.BADTIME)
    assert response.mac


async def test_dns_primary_long_answer_comes_over_tcp(server: Running) -> None:
    """RFC 2181 section 9: what does not fit into UDP is marked as truncated and comes whole over TCP."""
    text = " ".join(f'"{"x" * 255}"' for _ in range(6))
    assert await server.update(("add", OWNER, 60, "TXT", text)) == "NOERROR"
    assert (await server.query(OWNER)).flags & dns.flags.TC
    assert len((await server.query(OWNER, tcp=True)).answer[0][0].strings) == 6


@pytest.mark.parametrize("wire", [b"", b"short", b"\x00" * 12 + b"\xff", b"\x12\x34\x80" + b"\x00" * 9])
async def test_dns_primary_malformed_message_does_not_end_it(server: Running, wire: bytes) -> None:
    """Nonsense gets FORMERR or nothing, and the next client is served."""
    reply = server.primary.respond(wire, 512)
    assert reply is None or struct.unpack("!HH", reply[:4])[1] & 0xF == dns.rcode.FORMERR
    assert (await server.query("example.test.", "MX")).answer


async def test_dns_primary_nsupdate_and_dig_agree(server: Running) -> None:
    """BIND's own tools take it for a name server."""
    change = f"prereq nxrrset {OWNER} TXT\nupdate add {OWNER} 60 TXT hello\nsend\n"
    script = f"server 127.0.0.1 {server.port}\nzone example.test.\n{change}"

    def run(*argv: str, text: str | None = None) -> str:
        return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=True).stdout

    await asyncio.to_thread(run, "nsupdate", "-y", f"hmac-sha256:ptt:{SECRET}", text=script)
    answer = await asyncio.to_thread(run, "dig", "@127.0.0.1", "-p", str(server.port), "+short", "TXT", OWNER)
    assert answer == '"hello"\n'
