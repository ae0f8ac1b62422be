"""The arguments of MAIL and RCPT: a path in angle brackets and ESMTP parameters.

Strict where two readings are possible, because the relay writes down what was understood here. One leniency: blanks
between the colon and the path are taken, since printers and scanners send them. RFC 5321 sections 4.1.1.2, 4.1.1.3
and 4.1.2; RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 4954 section 5 (AUTH), RFC 3461 section 4 (DSN).
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ptt.core.address import Address, Domain, ReversePath, parse_address
from ptt.core.errors import MalformedInput, Refused
from ptt.core.notify import XTEXT, RecipientRequest, is_envid, is_notify, is_orcpt, is_ret, parse_notify
from ptt.core.reply import Reply
from ptt.core.wishes import NO_WISHES, WISH_CHECKS, Wishes, parse_wishes

ToAscii = Callable[[str], str]
"""Turns U-labels into A-labels and raises ValueError."""

MAX_PATH = 256  # octets with the brackets; RFC 5321 section 4.5.3.1.3

BAD_REVERSE_PATH = Reply(501, "5.1.7", "Malformed reverse-path; syntax: MAIL FROM:<address> [parameters]")
BAD_RECIPIENT = Reply(501, "5.1.3", "Malformed recipient; syntax: RCPT TO:<address> [parameters]")
BAD_PARAMETER = Reply(501, "5.5.4", "Malformed or repeated parameter")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognised or not implemented")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "Address that is not ASCII needs the SMTPUTF8 parameter of MAIL")
NO_LITERALS = Reply(550, "5.1.2", "Mail to address literals is not relayed")

# Path = "<" [ A-d-l ":" ] Mailbox ">"; a quoted local part may hold ">" and blanks.
_PATH = re.compile(r' *<(?P<route>@[^:<>" ]+:)?(?P<mailbox>(?:"(?:[^"\\]|\\.)*"|[^"<>\\ ])*)>(?: +(?P<parameters>.*))?')
_ROUTE = re.compile(r"@[^@,:]+(?:,@[^@,:]+)*:")
# esmtp-param = esmtp-keyword ["=" esmtp-value]; RFC 6531 section 3.4 adds non-ASCII characters to the value.
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\U0010ffff]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 section 6

Parameters = Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MailCommand:
    """What MAIL says."""

    reverse_path: ReversePath
    size_bytes: int = 0
    """The declared size, 0 when none is."""
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    """``FULL``, ``HDRS`` or empty."""
    envid: str = ""
    """In xtext, as it stands; empty without the parameter."""
    wishes: Wishes = NO_WISHES


@dataclass(frozen=True, slots=True)
class RcptCommand:
    """What RCPT says."""

    recipient: Address
    request: RecipientRequest


def parse_mail(argument: str, to_ascii: ToAscii) -> MailCommand:
    """Parse what follows ``MAIL``.

    Args:
        argument: such as ``FROM:<alice@example.org> SIZE=1000``.
        to_ascii: as for `ptt.core.address.parse_domain`.

    Raises:
        Refused: 501, 553 or 555.
    """
    mailbox, parameters = _split(argument, "FROM:", BAD_REVERSE_PATH)
    _check_parameters(parameters, _MAIL_PARAMETERS)
    smtputf8 = "SMTPUTF8" in parameters
    return MailCommand(
        reverse_path=_parse_mailbox(mailbox, BAD_REVERSE_PATH, smtputf8=smtputf8, to_ascii=to_ascii)
        if mailbox
        else None,
        size_bytes=int(parameters.get("SIZE") or 0),
        body=(parameters.get("BODY") or "7BIT").upper(),
        smtputf8=smtputf8,
        ret=(parameters.get("RET") or "").upper(),
        envid=parameters.get("ENVID") or "",
        wishes=parse_wishes(parameters),
    )


def parse_rcpt(argument: str, *, smtputf8: bool, own_domain: Domain, to_ascii: ToAscii) -> RcptCommand:
    """Parse what follows ``RCPT``.

    Args:
        argument: such as ``TO:<rita@example.org>``.
        smtputf8: whether MAIL asked for SMTPUTF8.
        own_domain: where ``<postmaster>`` without a domain goes.
        to_ascii: as for `ptt.core.address.parse_domain`.

    Raises:
        Refused: 501, 550, 553 or 555.
    """
    mailbox, parameters = _split(argument, "TO:", BAD_RECIPIENT)
    _check_parameters(parameters, _RCPT_PARAMETERS_UTF8 if smtputf8 else _RCPT_PARAMETERS)
    request = RecipientRequest(
        notify=parse_notify(parameters.get("NOTIFY")), original_recipient=parameters.get("ORCPT") or ""
    )
    # RFC 5321 section 4.1.1.3: the one mailbox without a domain, in any case.
    if mailbox.lower() == "postmaster":
        return RcptCommand(Address(mailbox, own_domain), request)
    address = _parse_mailbox(mailbox, BAD_RECIPIENT, smtputf8=smtputf8, to_ascii=to_ascii)
    # A literal names a machine, not an organisation: the way to loopback and private networks, and no mail needs it.
    if address.domain.startswith("["):
        raise Refused(NO_LITERALS)
    return RcptCommand(address, request)


def _split(argument: str, keyword: str, bad: Reply) -> tuple[str, Parameters]:
    if argument[: len(keyword)].upper() != keyword:
        raise Refused(bad)
    path = _PATH.fullmatch(argument, len(keyword))
    if path is None:
        raise Refused(bad)
    mailbox: str = path["mailbox"]
    # RFC 5321 section 4.1.1.3 and appendix C: a source route is recognised and ignored.
    route: str = path["route"] or ""
    if (route and not _ROUTE.fullmatch(route)) or len((route + mailbox).encode()) > MAX_PATH - 2:
        raise Refused(bad)
    return mailbox, _parse_parameters(path["parameters"] or "")


def _parse_mailbox(mailbox: str, bad: Reply, *, smtputf8: bool, to_ascii: ToAscii) -> Address:
    if not smtputf8 and not mailbox.isascii():
        raise Refused(NEEDS_SMTPUTF8)
    try:
        return parse_address(mailbox, smtputf8=smtputf8, to_ascii=to_ascii)
    except MalformedInput as error:
        raise Refused(bad) from error


def _parse_parameters(text: str) -> Parameters:
    parameters: dict[str, str | None] = {}
    for word in text.split():
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or parameter[1].upper() in parameters:
            raise Refused(BAD_PARAMETER)
        parameters[parameter[1].upper()] = parameter[2]
    return parameters


def _check_parameters(parameters: Parameters, checks: Mapping[str, Callable[[str | None], bool]]) -> None:
    for keyword, value in parameters.items():
        if keyword not in checks:
            raise Refused(UNKNOWN_PARAMETER)
        if not checks[keyword](value):
            raise Refused(BAD_PARAMETER)


def _is_size(value: str | None) -> bool:
    return value is not None and _SIZE.fullmatch(value) is not None


def _is_body(value: str | None) -> bool:
    return value is not None and value.upper() in {"7BIT", "8BITMIME"}


def _is_absent(value: str | None) -> bool:
    return value is None


def _is_submitter(value: str | None) -> bool:
    # RFC 4954 section 5: who offers AUTH must take this parameter; ours is no trusted relay, so it means nothing.
    return value is not None and XTEXT.fullmatch(value) is not None


_MAIL_PARAMETERS: Mapping[str, Callable[[str | None], bool]] = {
    "SIZE": _is_size,
    "BODY": _is_body,
    "SMTPUTF8": _is_absent,
    "AUTH": _is_submitter,
    "RET": is_ret,
    "ENVID": is_envid,
    **WISH_CHECKS,
}
_RCPT_PARAMETERS: Mapping[str, Callable[[str | None], bool]] = {
    "NOTIFY": is_notify,
    "ORCPT": functools.partial(is_orcpt, smtputf8=False),
}
_RCPT_PARAMETERS_UTF8: Mapping[str, Callable[[str | None], bool]] = {
    **_RCPT_PARAMETERS,
    "ORCPT": functools.partial(is_orcpt, smtputf8=True),
}
