"""Messages that are hard on canonicalisation: folds, blanks, tabs, 8-bit text, empty and unended bodies."""

from hypothesis import strategies as st

from tests.signing_keys import DOMAIN

AUTHORS = (
    f"alice@{DOMAIN}",
    f"<alice@{DOMAIN}>",
    f"Alice  Example\t<alice@{DOMAIN}>",
    f'"Example, Alice (a@b)" <alice@{DOMAIN}>',
    f"alice@{DOMAIN.upper()} (Alice at work)",
    f"Zo\u00eb \u4f8b <zo\u00eb@{DOMAIN}>",
    f'Bob <bob@{DOMAIN}>,\r\n "d; e" <"c d"@{DOMAIN}>',
)
SINGLE = ("To", "cc", "SUBJECT", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type", "List-Unsubscribe")
REPEATED = ("Received", "X-Odd", "Resent-To", "List-Id", "Comments")

BLANKS = st.text(alphabet=" \t", max_size=4).map(str.encode)
WORDS = st.text(alphabet="aB0;:=\".<>()\\'-", min_size=1, max_size=12).map(str.encode)
EIGHT_BIT = st.one_of(st.binary(min_size=1, max_size=4).map(lambda raw: bytes(octet | 0x80 for octet in raw)), WORDS)
FOLDS = st.sampled_from([b"\r\n ", b"\r\n\t", b" \r\n \t", b" ", b"\t", b"\r\n \r\n "])


@st.composite
def field_values(draw: st.DrawFn) -> bytes:
    """Make a value with folds and blanks anywhere, ending with CRLF."""
    parts = draw(st.lists(st.tuples(EIGHT_BIT, FOLDS), max_size=4))
    return draw(BLANKS) + b"".join(part for pair in parts for part in pair) + draw(BLANKS) + b"\r\n"


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Make a body: maybe empty, maybe of empty lines only, always ending with CRLF unless it is empty."""
    lines = st.lists(st.one_of(BLANKS, WORDS, EIGHT_BIT, st.just(b".")), max_size=5).map(b"".join)
    return b"".join(line + b"\r\n" for line in draw(st.lists(lines, max_size=8)))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Make a message of DOMAIN that can be signed."""
    names = draw(st.lists(st.sampled_from(SINGLE), unique=True))
    names += draw(st.lists(st.sampled_from(REPEATED), max_size=6))
    fields = [f"{name}:".encode() + draw(field_values()) for name in names]
    fields.append(b"From:" + draw(BLANKS) + draw(st.sampled_from(AUTHORS)).encode() + draw(BLANKS) + b"\r\n")
    return b"".join(draw(st.permutations(fields))) + draw(
        st.one_of(st.just(b""), bodies().map(lambda body: b"\r\n" + body))
    )
