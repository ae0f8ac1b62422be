"""What can be set, with meaning, unit, default and range: the sections and keys of ptt.toml.

The docstrings here are the reference: `ptt init` writes them into ptt.toml and `ptt config show` prints them.
"""

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyAddress,
    IPvAnyNetwork,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ptt.core.address import parse_domain
from ptt.core.rates import Rates
from ptt.core.repository import check_repository
from ptt.settings.urls import check_redis_url, name_database, name_server, put_database

Port = int
SPOOL_DATABASE = 1
BROKER_DATABASE = 0

RedisUrl = Annotated[str, AfterValidator(check_redis_url)]
Hostname = Annotated[str, AfterValidator(lambda name: parse_domain(name) if name else "")]
Repository = Annotated[str, AfterValidator(check_repository)]


class Section(BaseModel):
    """A table of ptt.toml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Redis(Section):
    """Where the spool and the wake-ups live."""

    url: RedisUrl | None = None
    """Spool: redis://, rediss:// or unix:// URL; embedded Valkey under `ptt up` when absent. Database 1 by default."""
    broker_url: RedisUrl | None = None
    """Wake-ups; the same server, database 0, when absent."""
    ca_file: Path | None = None
    """PEM file of the authorities that may sign the server's certificate (rediss://); the system's when absent."""
    certificate_file: Path | None = None
    """PEM file of our client certificate for rediss://."""
    key_file: Path | None = None
    """PEM file of the key of that certificate."""
    allow_unsafe: bool = False
    """Start although the server may lose what it acknowledged. For experiments only."""

    @field_validator("broker_url")
    @classmethod
    def _check_same_server(cls, broker_url: str | None, info: ValidationInfo) -> str | None:
        url = info.data.get("url")
        # One script spools a message and pushes its wake-up: that works within one server only.
        if broker_url and "url" in info.data and (url is None or name_server(url) != name_server(broker_url)):
            raise ValueError("must be on the same server as redis.url")
        return broker_url

    @model_validator(mode="after")
    def _check_databases(self) -> Self:
        spool = int(name_database(self.url or "") or SPOOL_DATABASE)
        # The threat: the wake-ups' database may be flushed at any time, and then the mail goes with it.
        if spool == int(name_database(self.broker_url or "") or BROKER_DATABASE):
            raise ValueError(f"spool and wake-ups must not share database {spool}; set another one in redis.url")
        return self


class Listen(Section):
    """One address that ingress listens on."""

    address: IPvAnyAddress
    """IP address."""
    port: Port = Field(ge=0, le=65535)
    """TCP port; 0 takes any free one."""
    tls: Literal["implicit", "starttls"]
    """TLS from the first byte (465), or after STARTTLS (587). Nothing is accepted in clear."""
    proxy_networks: tuple[IPvAnyNetwork, ...] = ()
    """Networks of load balancers. With any, only they may connect, and must begin with a PROXY header (v1 or v2)."""


class Certificate(Section):
    """One more certificate of ingress."""

    certificate_file: Path
    """PEM file: certificate and chain."""
    key_file: Path
    """PEM file: the key of that certificate."""


Mechanism = Literal["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN", "EXTERNAL", "OAUTHBEARER"]


class Ingress(Section):
    """The submission server."""

    hostname: Hostname = ""
    """Our name in the banner, in Received and in Message-ID."""
    listen: tuple[Listen, ...] = (
        Listen(address="0.0.0.0", port=465, tls="implicit"),  # type: ignore[arg-type]  # noqa: S104
        Listen(address="0.0.0.0", port=587, tls="starttls"),  # type: ignore[arg-type]  # noqa: S104
    )
    """Addresses to listen on."""
    certificate_file: Path | None = None
    """PEM file: our certificate and its chain."""
    key_file: Path | None = None
    """PEM file: the key of that certificate."""
    certificates: tuple[Certificate, ...] = ()
    """More certificates, { certificate_file, key_file } each: clients that name a host (SNI) get the one for it."""
    max_message_bytes: int = Field(default=26_214_400, ge=65_536, le=1_073_741_824)
    """Largest message, octets (RFC 1870)."""
    max_recipients: int = Field(default=1000, ge=100, le=100_000)
    """Most recipients of one message (RFC 5321 section 4.5.3.1.8 asks for 100 at least)."""
    timeout_s: float = Field(default=300, ge=1, le=3600)
    """How long a client may be silent, seconds (RFC 5321 section 4.5.3.2.7 asks for 300)."""
    max_hold_s: int = Field(default=604_800, ge=0, le=31_536_000)
    """Longest time that a client may have a message held for (FUTURERELEASE), seconds; 0 offers none."""
    min_deliver_by_s: int = Field(default=60, ge=1, le=86_400)
    """Least time to a deadline after which a message is returned (DELIVERBY), seconds."""
    convert_8bit: bool = False
    """Re-encode 8-bit parts, and text without MIME, before signing, for MX hosts which take 7-bit mail alone."""
    idempotency_window_s: float = Field(default=0, ge=0, le=86_400)
    """How long a submission with a Message-ID that is made again is answered like the first, seconds; 0 never."""
    max_connections: int = Field(default=5000, ge=1, le=100_000)
    """Most connections of one ingress process at once, handshakes included; one more hears 421."""
    max_connections_per_address: int = Field(default=0, ge=0, le=100_000)
    """Most of them from one IPv4 address or IPv6 /64; 0 means half of max_connections."""
    rate_per_hour: int = Field(default=0, ge=0)
    """Most messages of one user within an hour, for whom the user's file says nothing; 0 means no limit, there too."""
    rate_per_day: int = Field(default=0, ge=0)
    """The same within a day."""
    recipients_per_day: int = Field(default=0, ge=0)
    """Most recipients of one user's messages within a day; 0 means no limit."""
    client_ca_file: Path | None = None
    """PEM file of the authorities that may sign clients' certificates; clients are asked for one if it is set."""
    mechanisms: tuple[Mechanism, ...] = get_args(Mechanism)
    """SASL mechanisms that may be offered; some need more, as EXTERNAL a client's certificate."""
    seal_key_file: Path | None = None
    """32 random bytes in base64; the same file on ingress and sign hosts."""

    @field_validator("listen")
    @classmethod
    def _check_places(cls, listen: tuple[Listen, ...]) -> tuple[Listen, ...]:
        # Sockets share a port (SO_REUSEPORT): two entries for one place would each get some of the clients.
        places = [(one.address, one.port) for one in listen if one.port]
        if twice := next((place for place in places if places.count(place) > 1), None):
            raise ValueError(f"{twice[0]} port {twice[1]} is there twice")
        return listen

    @property
    def rates(self) -> Rates:
        """What a user may send whose file says nothing."""
        return Rates(
            messages_per_hour=self.rate_per_hour,
            messages_per_day=self.rate_per_day,
            recipients_per_day=self.recipients_per_day,
        )

    @property
    def all_certificates(self) -> tuple[Certificate, ...]:
        """All certificates; the first one serves who names no host of another."""
        if self.certificate_file is None or self.key_file is None:
            return self.certificates
        return (Certificate(certificate_file=self.certificate_file, key_file=self.key_file), *self.certificates)


class OAuth(Section):
    """Access tokens that let a user in by OAUTHBEARER; without keys_file it is not offered."""

    keys_file: Path | None = None
    """The OAuth server's public keys, a JWK set (RFC 7517); read again when it changes."""
    issuer: str = ""
    """What a token must say in "iss"."""
    audience: str = ""
    """What a token must say in "aud"."""
    algorithms: tuple[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"], ...] = (
        "RS256",
        "ES256",
    )
    """Algorithms that a token may be signed with."""
    login_claim: str = Field(default="sub", min_length=1)
    """The claim that holds the login."""
    scope: str = ""
    """A scope that a token must have; not asked when empty."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        # The threat: a token that the same server has issued for somebody else's service lets in here.
        if self.keys_file is not None and not (self.issuer and self.audience and self.algorithms):
            raise ValueError("keys_file needs issuer, audience and algorithms")
        return self


class Users(Section):
    """Who may log in."""

    repository: Repository = ""
    """Git repository: a path, or an https:// or ssh:// URL."""
    branch: str = "main"
    """Branch that counts."""
    poll_s: float = Field(default=5, ge=0.1, le=3600)
    """How often a new commit is looked for, seconds."""
    clone_dir: Path = Path("/var/lib/ptt/users-clone")
    """Folder for the clone of a repository elsewhere: who may log in is known from it while the remote is away."""
    ssh_key_file: Path | None = None
    """Private key for ssh://, without a passphrase; the SSH agent's when absent. The host must be in known_hosts."""
    password_file: Path | None = None
    """File with the password or access token for https://; the user name stands in the URL."""
    known_hosts_file: Path | None = None
    """Host keys for ssh://, as sshd(8) describes them; ~/.ssh/known_hosts when absent. Other hosts are refused."""
    signers_file: Path | None = None
    """SSH allowed signers (ssh-keygen(1)): the newest commit must be signed by one of them, or it is refused."""
    gpg_signers_file: Path | None = None
    """The same with OpenPGP keys, as `gpg --export` writes them; with both files either signature does."""
    signing_key_file: Path | None = None
    """Private SSH key, without a passphrase, with which `ptt user` signs its commits."""
    allow_rewind: bool = False
    """Serve a commit that does not come after the last good one: a push by force then brings removed users back."""


class SigningDomain(Section):
    """How mail of one domain is signed, if not by keys of its own in the usual way."""

    domain: Hostname
    """Domain of From."""
    sign_as: Hostname = ""
    """Domain whose keys sign: the same or a parent, so that DMARC finds them aligned; the same when absent."""
    canonicalization: Literal["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"] = (
        "relaxed/relaxed"
    )
    """What may change on the way in header and body: blanks with relaxed, nothing with simple (RFC 6376 3.4)."""

    @model_validator(mode="after")
    def _check_alignment(self) -> Self:
        if self.sign_as and f".{self.domain}".endswith(f".{self.sign_as}") is False:
            raise ValueError(f"sign_as must be {self.domain} or a parent of it")  # RFC 7489 section 3.1
        return self


class Signing(Section):
    """DKIM."""

    keys_dir: Path | None = None
    """Folder of private keys: <domain>/<selector>.pem, mode 0600."""
    domains: tuple[SigningDomain, ...] = ()
    """Domains that are signed by keys of a parent, or with another canonicalisation."""
    processes: int = Field(default=0, ge=0, le=256)
    """Signing processes in one worker; 0 means one per CPU."""
    check_s: float = Field(default=300, ge=0, le=86_400)
    """How often the keys in use are compared with what the authoritative servers answer, seconds; 0 means never."""
    rotate_after_days: float = Field(default=0, ge=0, le=3650)
    """Age at which an active key is replaced by itself, days; 0 means never. Needs [dns_update]."""


class DnsUpdate(Section):
    """The primary DNS server that takes our public keys (RFC 2136)."""

    server: IPvAnyAddress | None = None
    """IP address of the primary."""
    port: Port = Field(default=53, ge=1, le=65535)
    """TCP port of the primary."""
    tsig_key_name: str = ""
    """Name of the TSIG key (RFC 8945)."""
    tsig_secret_file: Path | None = None
    """File with the TSIG secret in base64."""
    tsig_algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    """TSIG algorithm."""
    ttl_s: int = Field(default=3600, ge=1, le=604_800)
    """TTL of a published key, seconds."""
    check_port: Port = Field(default=53, ge=1, le=65535)
    """Port of the authoritative servers that a published key is checked on."""


class Relay(Section):
    """Delivery to the Internet."""

    hostname: Hostname = ""
    """Our name in EHLO; ingress.hostname when absent."""
    resolvers: tuple[IPvAnyAddress, ...] = ()
    """IP addresses of DNS resolvers; those of /etc/resolv.conf when absent."""
    resolver_port: Port = Field(default=53, ge=1, le=65535)
    """Port of the resolvers."""
    smtp_port: Port = Field(default=25, ge=1, le=65535)
    """Port of the MX hosts."""
    source_addresses: tuple[IPvAnyAddress, ...] = ()
    """Where connections come from: the first of the target's IP version; the system's choice when absent."""
    allow_private_addresses: bool = False
    """Deliver to MX hosts in loopback and private address ranges."""
    ca_file: Path | None = None
    """PEM file of trust anchors for verified TLS; the system's when absent."""
    retry_schedule_s: tuple[float, ...] = Field(default=(900, 1800, 3600, 7200, 10800), min_length=1)
    """Seconds to wait after the first, second, ... attempt; the last repeats; 20 % of jitter either way."""
    max_age_s: float = Field(default=432_000, ge=1, le=2_592_000)
    """How long a message is tried, seconds from its acceptance (RFC 5321 section 4.5.4.1: 4 to 5 days)."""
    delay_notice_after_s: float = Field(default=14_400, ge=60, le=2_592_000)
    """When the sender is told of a delay, seconds from acceptance."""
    uncertain: Literal["retry", "hold"] = "retry"
    """What to do when the final dot was sent and no reply came: retry (RFC 5321) or hold for a person."""
    processes: int = Field(default=1, ge=1, le=64)
    """Processes that one relay worker delivers with, each on one core."""
    connections_per_host: int = Field(default=5, ge=1, le=1000)
    """Most connections of one relay process to one MX host."""
    messages_per_connection: int = Field(default=100, ge=1, le=100_000)
    """Most messages on one connection."""
    destinations: int = Field(default=1000, ge=1, le=10_000)
    """Most destinations that one relay process works on at once."""
    timeout_scale: float = Field(default=1.0, gt=0, le=10)
    """Factor on the SMTP timeouts of RFC 5321 section 4.5.3.2; below 1 for tests only."""


class Queue(Section):
    """How workers share the spool."""

    lease_s: float = Field(default=60, ge=2, le=3600)
    """How long a worker owns what it claimed unless it renews, seconds: so long mail waits after a crash."""


class Up(Section):
    """The one-host mode: `ptt up`."""

    data_dir: Path = Path("/var/lib/ptt/valkey")
    """Folder of the embedded Valkey: its append-only file and, mode 0700, its socket."""
    ingress_processes: int = Field(default=1, ge=1, le=64)
    """Ingress processes."""
    relay_processes: int = Field(default=1, ge=1, le=64)
    """Relay processes."""
    maxmemory_bytes: int = Field(default=0, ge=0)
    """Memory limit of the embedded Valkey; 0 means half of the machine's."""
    ingress_user: str = Field(default="ptt-ingress", min_length=1)
    """System user that ingress runs as under `ptt up --user-per-role`: a name, or uid:gid."""
    sign_user: str = Field(default="ptt-sign", min_length=1)
    """The same for sign."""
    relay_user: str = Field(default="ptt-relay", min_length=1)
    """The same for relay."""
    redis_user: str = Field(default="ptt-redis", min_length=1)
    """The same for the embedded Valkey; the group of this user may use its socket."""


class Log(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of the JSON lines on stderr."""


class Settings(Section):
    """The whole ptt.toml."""

    redis: Redis = Redis()
    ingress: Ingress = Ingress()
    oauth: OAuth = OAuth()
    users: Users = Users()
    signing: Signing = Signing()
    dns_update: DnsUpdate = DnsUpdate()
    relay: Relay = Relay()
    queue: Queue = Queue()
    up: Up = Up()
    log: Log = Log()

    @property
    def spool_url(self) -> str | None:
        """The spool's URL with the number of its database in it; None without redis.url."""
        url = self.redis.url
        return url and (url if name_database(url) else put_database(url, SPOOL_DATABASE))

    @property
    def broker_url(self) -> str | None:
        """The wake-ups' URL as redis-py writes it, with the number of its database in it; None without redis.url."""
        url = self.redis.broker_url
        if url and name_database(url):
            return url
        return self.redis.url and put_database(url or self.redis.url, BROKER_DATABASE)

    @property
    def broker_database(self) -> int:
        """The database of the wake-ups."""
        return int(name_database(self.broker_url or "") or BROKER_DATABASE)

    @property
    def ehlo_hostname(self) -> str:
        """The relay's own name."""
        return self.relay.hostname or self.ingress.hostname
