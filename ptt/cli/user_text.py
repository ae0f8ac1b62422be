"""How `ptt user` shows a user: what the file says, and what of it is used up."""

from dataclasses import asdict

from ptt.core.errors import PttError
from ptt.core.rates import choose_rates, format_wait
from ptt.core.user import User
from ptt.settings import Settings
from ptt.store.usage import Usage, read_usage
from ptt.workers.wiring import find_spool


def describe(user: User, settings: Settings) -> dict[str, object]:
    """Give what is in the file, without the password's hash, and the limits that hold."""
    rates = choose_rates(user, settings.ingress.rates)
    return {
        "login": user.login,
        "enabled": user.enabled,
        "addresses": list_patterns(user),
        "rate_per_hour": rates.messages_per_hour or None,
        "rate_per_day": rates.messages_per_day or None,
        "recipients_per_day": rates.recipients_per_day or None,
        "scram": user.scram is not None,
        "certificates": sorted(user.certificates),
        "application_passwords": [password.name for password in user.application_passwords],
    }


def describe_usage(login: str, settings: Settings) -> tuple[dict[str, float] | None, str]:
    """Give what the user has sent, and a line on it; without Redis nothing, and the line says why.

    What is counted is only what has a limit.
    """
    try:
        usage = read_usage(find_spool(settings), login)
    except PttError as error:
        return None, f"unknown: {error}"
    return asdict(usage), _format_usage(usage)


def list_patterns(user: User) -> list[str]:
    """List what may stand in MAIL FROM and From."""
    return sorted([*map(str, user.addresses), *(f"*@{domain}" for domain in user.domains)])


def _format_usage(usage: Usage) -> str:
    if not usage.day_ends_in_s:
        return "none"
    sent = f"{usage.messages_this_day} messages, {usage.recipients_this_day} recipients"
    parts = [f"{sent} in the day that ends in {format_wait(usage.day_ends_in_s)}"]
    if usage.hour_ends_in_s:
        ends = format_wait(usage.hour_ends_in_s)
        parts.insert(0, f"{usage.messages_this_hour} messages in the hour that ends in {ends}")
    return "; ".join(parts)
