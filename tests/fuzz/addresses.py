"""Addresses wherever they stand: alone, in MAIL and RCPT, in From; and how the relay writes them down again."""

import email.utils
import re

from ptt.core.address import MAX_LOCAL_PART, Address, Domain, parse_address
from ptt.core.errors import MalformedInput, Refused
from ptt.core.mailbox import parse_mailboxes
from ptt.core.path import MailCommand, RcptCommand, parse_mail, parse_rcpt
from ptt.domain_names import to_a_labels
from ptt.ingress.replies import format_reply
from ptt.smtp.commands import Extensions, format_mail, format_rcpt
from tests.fuzz.target import Target, split_choice
from tests.letters import Letter

OWN_DOMAIN = Domain("mail.example.test")
EVERYTHING = Extensions(pipelining=True, size=True, eight_bit_mime=True, smtputf8=True, dsn=True)
_UTF8, _RCPT = 1, 2  # bits of the choice
SHAPES = (
    b"alice@example.test", b'"a b"@example.test', b'"a\\"@b"@example.test', b"a.b+c@xn--bcher-kva.example",
    "ä.ö@bücher.example".encode(), b"a@[192.0.2.1]", b"a@[IPv6:2001:db8::1]", b"a@[fe80::1%1]", b"Postmaster",
    b"@a.test,@b.test:c@d.test", b"a@localhost", b"a@1.2.3.4", b"_a@_b.test", b"=?utf-8?q?a?=@b.test",
    "a@\uff45xample\u3002test".encode(), "a@\u200d.test".encode(), "a@ß.example".encode(), b"a@xn--zca.example",
)  # fmt: skip
WORDS = (
    b"@",
    b'"',
    b"\\",
    b"<",
    b">",
    b"xn--",
    b".",
    b"[IPv6:",
    b"\xe3\x80\x82",
    b"\xe2\x80\x8d",
    b"\xc2\xad",
    b"=?",
    b"a" * 64,
)


def check_address(octets: bytes) -> None:
    """Only MalformedInput leaves `parse_address`; what it gives is short, has no control character, and reads back."""
    choice, rest = split_choice(octets)
    text = rest.decode("utf-8", "surrogateescape")
    smtputf8 = bool(choice & _UTF8)
    try:
        address = parse_address(text, smtputf8=smtputf8, to_ascii=to_a_labels)
    except MalformedInput:
        return
    check_sound(address, smtputf8=smtputf8)
    assert address.domain.startswith("[") or address.domain == spell_domain(text.rpartition("@")[2])


def spell_domain(text: str) -> str:
    """Write a domain in A-labels by their definition (RFC 5890 section 2.3.2.1), mapping nothing but ASCII."""
    text = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    labels = text.split(".")
    return ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)


def check_sound(address: Address, *, smtputf8: bool) -> None:
    """Check what holds for every address."""
    assert parse_address(str(address), smtputf8=smtputf8, to_ascii=to_a_labels) == address
    assert address.domain.isascii()
    assert address.domain == address.domain.lower() or address.domain.startswith("[IPv6:")
    assert str(address).isprintable() or smtputf8
    assert not any(character < " " or character == "\x7f" for character in str(address))
    assert smtputf8 or address.is_ascii
    assert 0 < len(address.local.encode()) <= MAX_LOCAL_PART


def check_path(octets: bytes) -> None:
    """Only Refused leaves `parse_mail` and `parse_rcpt`; what they give, the relay writes as a line that reads back."""
    choice, rest = split_choice(octets)
    try:
        text = rest.decode()
        smtputf8 = bool(choice & _UTF8)
        if choice & _RCPT:
            _check_rcpt(
                parse_rcpt(text, smtputf8=smtputf8, own_domain=OWN_DOMAIN, to_ascii=to_a_labels), smtputf8=smtputf8
            )
        else:
            _check_mail(parse_mail(text, to_a_labels))
    except UnicodeDecodeError:
        return
    except Refused as refusal:
        line = format_reply(refusal.reply)
        assert line.isascii()
        assert refusal.reply.code in {501, 550, 553, 555}


def _check_mail(mail: MailCommand) -> None:
    if mail.reverse_path is not None:
        check_sound(mail.reverse_path, smtputf8=mail.smtputf8)
    assert mail.size_bytes >= 0
    letter = Letter(
        reverse_path=mail.reverse_path, body=mail.body, smtputf8=mail.smtputf8, ret=mail.ret, envid=mail.envid
    )
    line = format_mail(letter.message, EVERYTHING)
    again = parse_mail(_check_line(line, "MAIL "), to_a_labels)
    # Nothing but what the relay passes on is compared.
    assert (again.reverse_path, again.body, again.smtputf8) == (mail.reverse_path, mail.body, mail.smtputf8)
    assert (again.ret, again.envid) == (mail.ret, mail.envid)


def _check_rcpt(rcpt: RcptCommand, *, smtputf8: bool) -> None:
    if rcpt.recipient.local.lower() != "postmaster":
        check_sound(rcpt.recipient, smtputf8=smtputf8)
    assert not rcpt.recipient.domain.startswith("[")
    argument = _check_line(format_rcpt(rcpt.recipient, rcpt.request, EVERYTHING), "RCPT ")
    again = parse_rcpt(argument, smtputf8=smtputf8, own_domain=OWN_DOMAIN, to_ascii=to_a_labels)
    assert again == rcpt


def _check_line(line: bytes, verb: str) -> str:
    assert line.endswith(b"\r\n")
    text = line[:-2].decode()
    assert "\r" not in text
    assert "\n" not in text
    return text.removeprefix(verb)


def check_mailboxes(octets: bytes) -> None:
    """Only MalformedInput leaves `parse_mailboxes`; what it takes, Python's own parser reads as the same addresses."""
    choice, rest = split_choice(octets)
    smtputf8 = bool(choice & _UTF8)
    try:
        # As in a header: without line ends and NUL, which were refused before.
        text = rest.translate(None, b"\r\n\0").decode()
        addresses = parse_mailboxes(text, smtputf8=smtputf8, to_ascii=to_a_labels)
    except (UnicodeDecodeError, MalformedInput):
        return
    for address in addresses:
        check_sound(address, smtputf8=smtputf8)
    found = [address for _, address in email.utils.getaddresses([text])]
    assert len(found) == len(addresses), (text, found)
    for theirs, ours in zip(found, addresses, strict=True):
        read = parse_address(theirs, smtputf8=smtputf8, to_ascii=to_a_labels)
        assert (_unquote(read.local), read.domain) == (_unquote(ours.local), ours.domain), (text, theirs, ours)


def _unquote(local: str) -> str:
    """Give what a local part means: RFC 5321 section 4.1.2, quotes and escapes are no part of it."""
    return re.sub(r"\\(.)", r"\1", local[1:-1]) if local.startswith('"') else local


def _paths() -> tuple[bytes, ...]:
    mail = [b"\x01FROM:<%b> SMTPUTF8" % shape for shape in SHAPES] + [
        b"\x00FROM:<%b> SIZE=10" % shape for shape in SHAPES
    ]
    rcpt = [b"\x03TO:<%b>" % shape for shape in SHAPES] + [b"\x02TO: <%b> NOTIFY=NEVER" % shape for shape in SHAPES]
    return (
        *mail,
        *rcpt,
        b"\x00FROM:<> BODY=8BITMIME RET=HDRS ENVID=a+2Bb AUTH=<> MT-PRIORITY=-3 HOLDFOR=60",
        b"\x00FROM:<a@b.test> HOLDUNTIL=2030-01-01T00:00:00.5Z",
        b"\x02TO:<a@b.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b",
        "\x03TO:<ä@b.test> ORCPT=utf-8;ä@b.test NOTIFY=FAILURE".encode(),
    )


_PARAMETERS = (
    b" SIZE=",
    b" BODY=8BITMIME",
    b" SMTPUTF8",
    b" RET=FULL",
    b" ENVID=",
    b" NOTIFY=",
    b" ORCPT=utf-8;",
    b"+2B",
    b" MT-PRIORITY=",
    b" HOLDUNTIL=0001-01-01T00:00:00Z",
    b" HOLDFOR=",
    b" AUTH=",
)
_NAMES = (
    b"Alice Doe <%b>",
    b'"Doe, A. \\"x\\"" <%b>',
    b"%b (Alice)",
    b"<%b>, b@c.test",
    b"=?utf-8?q?a?= <%b>",
    b"a.b. <%b>",
)

TARGETS = (
    Target(
        name="address",
        check=check_address,
        seeds=tuple(choice + shape for shape in SHAPES for choice in (b"\x00", b"\x01")),
        words=WORDS,
        max_bytes=330,
    ),
    Target(name="path", check=check_path, seeds=_paths(), words=WORDS + _PARAMETERS, max_bytes=600),
    Target(
        name="mailboxes",
        check=check_mailboxes,
        seeds=tuple(b"\x01" + name % shape for name in _NAMES for shape in SHAPES),
        words=(*WORDS, b"(", b")", b",", b" ", b"\t", b";", b":"),
    ),
)
