"""Arguments of MAIL and RCPT: each accepted form, each refusal, and no crash on anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptt.core.address import Address, Domain
from ptt.core.errors import Refused
from ptt.core.notify import NO_REQUEST, Notify, RecipientRequest
from ptt.core.path import MailCommand, RcptCommand, parse_mail, parse_rcpt
from ptt.domain_names import to_a_labels

OWN = Domain("mail.example.test")
ALICE = Address("alice", Domain("example.test"))


def mail(argument: str) -> MailCommand:
    """Parse the argument of MAIL."""
    return parse_mail(argument, to_a_labels)


def rcpt(argument: str, *, smtputf8: bool = False) -> Address:
    """Parse the argument of RCPT and give the recipient."""
    return parse_whole(argument, smtputf8=smtputf8).recipient


def parse_whole(argument: str, *, smtputf8: bool = False) -> RcptCommand:
    """Parse the argument of RCPT."""
    return parse_rcpt(argument, smtputf8=smtputf8, own_domain=OWN, to_ascii=to_a_labels)


def refusal(parse: object, argument: str) -> str:
    """Give code and enhanced status of the refusal."""
    assert callable(parse)
    with pytest.raises(Refused) as caught:
        parse(argument)
    return f"{caught.value.reply.code} {caught.value.reply.enhanced_status}"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<alice@example.test>", MailCommand(reverse_path=ALICE)),
        ("from:<alice@EXAMPLE.test>", MailCommand(reverse_path=ALICE)),
        ("FROM: <alice@example.test>", MailCommand(reverse_path=ALICE)),
        ("FROM:<>", MailCommand(reverse_path=None)),
        ("FROM:<alice@example.test> SIZE=1000", MailCommand(reverse_path=ALICE, size_bytes=1000)),
        ("FROM:<alice@example.test> size=0", MailCommand(reverse_path=ALICE)),
        ("FROM:<alice@example.test> BODY=7bit", MailCommand(reverse_path=ALICE)),
        (
            "FROM:<alice@example.test> BODY=8BITMIME  SMTPUTF8",
            MailCommand(reverse_path=ALICE, body="8BITMIME", smtputf8=True),
        ),
        ("FROM:<alice@example.test> AUTH=<>", MailCommand(reverse_path=ALICE)),
        ("FROM:<alice@example.test> AUTH=e+3Dmc2@example.test", MailCommand(reverse_path=ALICE)),
        ("FROM:<@a.test,@b.test:alice@example.test>", MailCommand(reverse_path=ALICE)),
        ("FROM:<alice@example.test> RET=hdrs", MailCommand(reverse_path=ALICE, ret="HDRS")),
        (
            "FROM:<alice@example.test> ENVID=QQ314159+20x RET=FULL",
            MailCommand(reverse_path=ALICE, ret="FULL", envid="QQ314159+20x"),
        ),
        (
            "FROM:<алиса@example.test> SMTPUTF8",
            MailCommand(reverse_path=Address("алиса", Domain("example.test")), smtputf8=True),
        ),
        (
            "FROM:<alice@Bücher.EXAMPLE> SMTPUTF8",
            MailCommand(reverse_path=Address("alice", Domain("xn--bcher-kva.example")), smtputf8=True),
        ),
    ],
)
def test_mail_argument_is_parsed(argument: str, expected: MailCommand) -> None:
    """Path and parameters come in any case; source routes are dropped (RFC 5321 appendix C)."""
    assert mail(argument) == expected


@pytest.mark.parametrize(
    "path",
    [
        "",
        "alice@example.test",
        "<alice@example.test",
        "alice@example.test>",
        "<alice@example.test>x",
        "<a b@example.test>",
        "<a@b@example.test>",
        "<@>",
        "<a@>",
        "<@b>",
        "<.a@example.test>",
        "<a..b@example.test>",
        "<a@example..test>",
        "<a@-example.test>",
        "<a@xn---.test>",
        "<a@localhost>",
        "<a@192.0.2.1>",
        "<a@example.test:25>",
        "<@evil.test:25:a@example.test>",
        "<@:a@example.test>",
        "<" + "x" * 65 + "@example.test>",
        "<a@" + "x." * 127 + "xx>",
        "<@" + "x" * 240 + ":alice@example.test>",
        '<"a@example.test>',
        "<<a@example.test>>",
        "<a\\b@example.test>",
    ],
)
def test_malformed_path_is_refused(path: str) -> None:
    """What is no path of RFC 5321 section 4.1.2 gets 501, with the status that names the side."""
    assert refusal(mail, f"FROM:{path}") == "501 5.1.7"
    assert refusal(rcpt, f"TO:{path}") == "501 5.1.3"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("SIZE=-1", "501 5.5.4"),
        ("SIZE=²", "501 5.5.4"),
        ("SIZE=1 SIZE=2", "501 5.5.4"),
        ("SIZE=" + "9" * 26, "501 5.5.4"),
        ("SIZE", "501 5.5.4"),
        ("SIZE=", "501 5.5.4"),
        ("BODY=9BIT", "501 5.5.4"),
        ("BODY", "501 5.5.4"),
        ("SMTPUTF8=1", "501 5.5.4"),
        ("AUTH=+zz", "501 5.5.4"),
        ("=x", "501 5.5.4"),
        ("RET", "501 5.5.4"),
        ("RET=BODY", "501 5.5.4"),
        ("RET=FULL RET=HDRS", "501 5.5.4"),
        ("ENVID=", "501 5.5.4"),
        ("ENVID=+2", "501 5.5.4"),
        ("ENVID=+0A", "501 5.5.4"),
        ("ENVID=+C3", "501 5.5.4"),
        ("ENVID=é", "501 5.5.4"),
        ("ENVID=" + "x" * 101, "501 5.5.4"),
        ("NOTIFY=NEVER", "555 5.5.4"),
        ("X-UNKNOWN", "555 5.5.4"),
    ],
)
def test_wrong_parameter_of_mail_is_refused(parameters: str, expected: str) -> None:
    """Malformed and repeated parameters get 501, unknown ones 555 (RFC 5321 section 4.1.1.11)."""
    assert refusal(mail, f"FROM:<alice@example.test> {parameters}") == expected


def test_address_beyond_ascii_without_smtputf8_is_refused() -> None:
    """RFC 6531 section 3.5: 553 5.6.7, for the local part and for the domain."""
    assert refusal(mail, "FROM:<алиса@example.test>") == "553 5.6.7"
    assert refusal(mail, "FROM:<alice@bücher.example>") == "553 5.6.7"
    assert refusal(rcpt, "TO:<rita@bücher.example>") == "553 5.6.7"


def test_look_alike_local_part_stays_what_it_is() -> None:
    """Local parts are not mapped: ``henryⅣ`` is another mailbox than ``henryIV`` (RFC 6531 section 3.2)."""
    assert rcpt("TO:<henryⅣ@example.test>", smtputf8=True).local == "henryⅣ"


@pytest.mark.parametrize(
    ("argument", "local", "domain"),
    [
        ("TO:<Rita@example.test>", "Rita", "example.test"),
        ('TO:<"a b"@example.test>', '"a b"', "example.test"),
        ('TO:<"a@evil> RCPT TO:<x"@example.test>', '"a@evil> RCPT TO:<x"', "example.test"),
        ('TO:<"a@b"@example.test>', '"a@b"', "example.test"),
        ("TO:<a%evil.test@example.test>", "a%evil.test", "example.test"),
        ("TO:<evil.test!a@example.test>", "evil.test!a", "example.test"),
        ("TO:<@evil.test:rita@example.test>", "rita", "example.test"),
        ("TO:<postmaster>", "postmaster", OWN),
        ("TO:<Postmaster>", "Postmaster", OWN),
    ],
)
def test_rcpt_argument_is_one_recipient_and_no_second_route(argument: str, local: str, domain: str) -> None:
    """``%``, ``!`` and quoted ``@`` mean nothing here; the local part stays as it is (RFC 5321 section 2.3.11)."""
    assert rcpt(argument) == Address(local, Domain(domain))


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("TO:<>", "501 5.1.3"),
        ("FROM:<a@example.test>", "501 5.1.3"),
        ("TO:<webmaster>", "501 5.1.3"),
        ("TO:<a@[127.0.0.1]>", "550 5.1.2"),
        ("TO:<a@[IPv6:::1]>", "550 5.1.2"),
        ("TO:<a@[192.0.2.1]>", "550 5.1.2"),
        ("TO:<a@example.test> NOTIFY=NEVER,DELAY", "501 5.5.4"),
        ("TO:<a@example.test> NOTIFY=DELAY,DELAY", "501 5.5.4"),
        ("TO:<a@example.test> NOTIFY=DELAY,", "501 5.5.4"),
        ("TO:<a@example.test> NOTIFY", "501 5.5.4"),
        ("TO:<a@example.test> NOTIFY=ALWAYS", "501 5.5.4"),
        ("TO:<a@example.test> ORCPT=a@example.test", "501 5.5.4"),
        ("TO:<a@example.test> ORCPT=;a@example.test", "501 5.5.4"),
        ("TO:<a@example.test> ORCPT=rfc822;", "501 5.5.4"),
        ("TO:<a@example.test> ORCPT=rfc822;a+0D+0Ab", "501 5.5.4"),
        ("TO:<a@example.test> ORCPT=rfc822;a+b", "501 5.5.4"),
        ("TO:<a@example.test> ORCPT=utf-8;é@example.test", "501 5.5.4"),
        ("TO:<a@example.test> ORCPT=rfc822;" + "x" * 494, "501 5.5.4"),
        ("TO:<a@example.test> RET=FULL", "555 5.5.4"),
        ("TO:<a@example.test> =", "501 5.5.4"),
    ],
)
def test_wrong_argument_of_rcpt_is_refused(argument: str, expected: str) -> None:
    """A literal is no way to a machine; what was asked must be as RFC 3461 section 4 has it."""
    assert refusal(rcpt, argument) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", NO_REQUEST),
        (" NOTIFY=never", RecipientRequest(notify=frozenset({Notify.NEVER}))),
        (" notify=SUCCESS,delay", RecipientRequest(notify=frozenset({Notify.SUCCESS, Notify.DELAY}))),
        (" ORCPT=rfc822;Bob+2Bx@Example.test", RecipientRequest(original_recipient="rfc822;Bob+2Bx@Example.test")),
        (" ORCPT=utf-8;\\x{E9}@a.test", RecipientRequest(original_recipient="utf-8;\\x{E9}@a.test")),
        (" ORCPT=rfc822;" + "x" * 493, RecipientRequest(original_recipient="rfc822;" + "x" * 493)),
    ],
)
def test_what_is_asked_for_a_recipient_is_kept_as_it_came(parameters: str, expected: RecipientRequest) -> None:
    """RFC 3461 section 5.2.1: it must be passed on unchanged, so ORCPT is kept as it stands."""
    assert parse_whole(f"TO:<a@example.test>{parameters}").request == expected


def test_orcpt_beyond_ascii_is_taken_with_smtputf8() -> None:
    """RFC 6533 section 3: with SMTPUTF8 the address may stand unencoded."""
    request = parse_whole("TO:<é@example.test> ORCPT=utf-8;é@example.test", smtputf8=True).request
    assert request.original_recipient == "utf-8;é@example.test"


@given(st.text(alphabet='<>@:," \\.aä[]=%\u2028', max_size=40), st.booleans())
def test_parser_meets_anything_refuses_or_gives_a_clean_address(text: str, smtputf8: bool) -> None:  # noqa: FBT001 - hypothesis
    """Whatever comes, no other exception leaves the parser, and no accepted address has a blank outside quotes."""
    try:
        address = rcpt(f"TO:{text}", smtputf8=smtputf8)
        mail(f"FROM:{text}")
    except Refused:
        return
    assert " " not in address.local or address.local.startswith('"')
