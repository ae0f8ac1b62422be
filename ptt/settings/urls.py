"""URLs of Redis servers and of repositories, as settings hold them: checked, compared, shown without passwords."""

from urllib.parse import SplitResult, parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

REDIS_PORT = 6379


def check_redis_url(url: str) -> str:
    """Give the URL back if redis-py can use it.

    Raises:
        ValueError: another scheme, no server, or a database that is no number.
    """
    parts = urlsplit(url)
    server = parts.path if parts.scheme == "unix" else parts.hostname
    if parts.scheme not in {"redis", "rediss", "unix"} or not server:
        raise ValueError("must be a URL of redis://, rediss:// or unix://")
    named = name_database(url)
    if named and not (named.isascii() and named.isdigit()):
        raise ValueError("must end in the number of a database, such as /1 or ?db=1, or in none")
    return url


def name_database(url: str) -> str:
    """Give what a URL of Redis says about the database."""
    parts = urlsplit(url)
    return parse_qs(parts.query).get("db", [""])[0] or ("" if parts.scheme == "unix" else parts.path.strip("/"))


def name_server(url: str) -> tuple[str, str | None, int, str]:
    """Give what two URLs of one server have in common."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or REDIS_PORT, parts.path if parts.scheme == "unix" else ""


def put_database(url: str, database: int) -> str:
    """Give the same server with another database."""
    parts = urlsplit(url)
    rest = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "db"]
    if parts.scheme == "unix":
        return _join(parts._replace(query=urlencode([*rest, ("db", str(database))])))
    return _join(parts._replace(path=f"/{database}", query=urlencode(rest)))


def put_login(url: str, user: str, password: str) -> str:
    """Give the same server with another login."""
    parts = urlsplit(url)
    return _join(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{_name_host(parts.netloc)}"))


def read_password(url: str) -> str:
    """Give the password in a URL, or nothing."""
    return unquote(urlsplit(url).password or "")


def _name_host(netloc: str) -> str:
    return netloc.rpartition("@")[2]


def redact_url(url: str) -> str:
    """Give a URL without the password in it."""
    parts = urlsplit(url)
    name, colon, _ = parts.netloc.rpartition("@")[0].partition(":")
    if colon:
        parts = parts._replace(netloc=f"{name}:***@{parts.netloc.rpartition('@')[2]}")
    elif name and parts.scheme == "https":
        # An access token may stand alone before the @.
        parts = parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}")
    pairs = [(key, "***" if key == "password" else value) for key, value in parse_qsl(parts.query)]
    return _join(parts._replace(query=urlencode(pairs, safe="*/")))


def _join(parts: SplitResult) -> str:
    # urlunsplit leaves the // of unix:///path out, but redis-py asks for it.
    if parts.scheme == "unix":
        return f"unix://{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    return urlunsplit(parts)
