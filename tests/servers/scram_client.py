"""A SCRAM client that is not ours: the scramp package says what a client says."""

from collections.abc import Callable

import scramp


def scram_steps(
    login: str, password: str, binding: tuple[str, bytes] | None = None
) -> tuple[str, Callable[[bytes], bytes], Callable[[bytes], None]]:
    """Begin an exchange.

    Args:
        login: who.
        password: what.
        binding: name and octets of the channel binding; with one the mechanism is -PLUS.

    Returns:
        The first message, what gives the last one from the server's first, and what checks the server's last.
    """
    mechanism = "SCRAM-SHA-256-PLUS" if binding else "SCRAM-SHA-256"
    client = scramp.ScramClient([mechanism], login, password, channel_binding=binding)
    first = client.get_client_first()

    def answer(server_first: bytes) -> bytes:
        client.set_server_first(server_first.decode())
        return str(client.get_client_final()).encode()

    return first, answer, lambda server_final: client.set_server_final(server_final.decode())
