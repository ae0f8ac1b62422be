"""STARTTLS without a policy: taken where it works, given up once where it does not. RFC 3207."""

import ssl

import pytest
import trustme

from ptt.core.outcome import Delivered
from ptt.core.verdict import Phase
from tests.letters import DESTINATION, Letter, tell, with_timeout
from tests.scripted import Act, Answer, Script, scripted_server
from tests.unit.smtp.conftest import MakeCourier


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    """Give a server context with a certificate that nobody trusts, for another name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("other.example").configure_cert(context)
    return context


async def test_starttls_is_taken_whatever_the_certificate(tls: ssl.SSLContext, make_courier: MakeCourier) -> None:
    """RFC 7435 section 3: encrypted to nobody in particular beats clear; the first EHLO is forgotten."""
    names: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    script = Script(tls=tls, extensions=("PIPELINING", "SIZE 1"), extensions_in_tls=("8BITMIME",))
    async with scripted_server(script) as server:
        letter = Letter(body="8BITMIME")
        outcomes = await make_courier(server.port).deliver(DESTINATION, letter.message)
        assert isinstance(outcomes[0][1], Delivered)
        assert outcomes[0][1].peer.tls.startswith("TLSv1.3 TLS_")
        assert server.commands[0][:4] == [
            "EHLO relay.example.org",
            "STARTTLS",
            "EHLO relay.example.org",
            "MAIL FROM:<alice@example.org> BODY=8BITMIME",
        ]
        assert names == ["mx.example"]  # RFC 7672 section 8.1: SNI is the MX host


async def test_kept_tls_connection_is_used_again(tls: ssl.SSLContext, make_courier: MakeCourier) -> None:
    """One handshake for many messages."""
    async with scripted_server(Script(tls=tls)) as server:
        courier = make_courier(server.port)
        for _ in range(5):
            assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert len(server.dialogues) == 1
        assert server.dialogues[0].is_tls


BROKEN: list[tuple[str, Answer]] = [
    ("454", b"454 4.7.0 not now\r\n"),
    ("501", b"501 5.5.4 no\r\n"),
    ("421 and close", (b"421 4.3.2 closing\r\n", Act.CLOSE)),
    ("close", Act.CLOSE),
    ("reset", Act.RESET),
    ("close in the handshake", (b"220 go\r\n", Act.CLOSE)),
    ("no TLS in the handshake", (b"220 go\r\n", Act.READ_ONE, b"this is not TLS at all\r\n", Act.HANG)),
    ("silence in the handshake", (b"220 go\r\n", Act.HANG)),
    ("silence", Act.HANG),
]


@pytest.mark.parametrize("answer", [case[1] for case in BROKEN], ids=[case[0] for case in BROKEN])
async def test_broken_starttls_falls_back_to_clear_on_a_new_connection(
    answer: Answer, tls: ssl.SSLContext, make_courier: MakeCourier
) -> None:
    """RFC 3207 section 4.1: without a policy that asks for TLS the mail may go without it."""
    async with scripted_server(Script(tls=tls, answers={"STARTTLS": answer})) as server:
        courier = make_courier(server.port, timeouts=with_timeout(0.5, Phase.STARTTLS))
        outcomes = await courier.deliver(DESTINATION, Letter().message)
        assert tell(outcomes) == ["delivered 2.0.0"]
        assert outcomes[0][1].peer.tls == ""
        assert [("STARTTLS" in commands, "." in commands) for commands in server.commands] == [
            (True, False),
            (False, True),
        ]


async def test_broken_starttls_is_remembered_for_a_while(tls: ssl.SSLContext, make_courier: MakeCourier) -> None:
    """The connection in clear is kept and used again: STARTTLS is not tried for each message."""
    async with scripted_server(Script(tls=tls, answers={"STARTTLS": b"454 no\r\n"})) as server:
        courier = make_courier(server.port)
        for _ in range(5):
            assert tell(await courier.deliver(DESTINATION, Letter().message)) == ["delivered 2.0.0"]
        assert len(server.dialogues) == 2


async def test_old_tls_falls_back_to_clear(make_courier: MakeCourier) -> None:
    """RFC 8996: TLS 1.1 is not spoken; a host that knows nothing newer gets its mail in clear."""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("mx.example").configure_cert(old)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with scripted_server(Script(tls=old)) as server:
        outcomes = await make_courier(server.port).deliver(DESTINATION, Letter().message)
        assert tell(outcomes) == ["delivered 2.0.0"]
        assert outcomes[0][1].peer.tls == ""


@pytest.mark.parametrize("text", [b"250 fake\r\n", b"250-fake", b"x\r\n", b"250 a\r\n250 b\r\n250 c\r\n"])
async def test_text_after_220_is_deferred_and_never_sent_in_clear(
    text: bytes, tls: ssl.SSLContext, make_courier: MakeCourier
) -> None:
    """RFC 3207 section 6: text between 220 and the handshake was put there by somebody on the way."""
    answer: Answer = (b"220 go ahead\r\n" + text, Act.START_TLS)
    async with scripted_server(Script(tls=tls, answers={"STARTTLS": answer})) as server:
        assert tell(await make_courier(server.port).deliver(DESTINATION, Letter().message)) == ["deferred"]
        assert len(server.dialogues) == 1
        assert not any(command.startswith("MAIL") for command in server.commands[0])
