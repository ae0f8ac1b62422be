"""How a session ends other than by QUIT."""

from ptt.core.reply import Reply


class Dismissed(Exception):  # noqa: N818 - what happens to the session, not an error of it
    """The connection ends now, with this reply."""

    def __init__(self, reply: Reply) -> None:
        """Keep the reply."""
        super().__init__(str(reply))
        self.reply = reply


class Disconnected(Exception):  # noqa: N818 - what happens to the session, not an error of it
    """The client is gone, or will send no more.

    No OSError, and never mixed up with one: those of the spool or the users are ours, and the client must hear 451.
    """
