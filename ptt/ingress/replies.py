"""The replies that depend on nothing, in one table, and how replies are written. RFC 5321 section 4.2, RFC 2034.

No reply says more than the client needs: causes go to the log.
"""

from ptt.core.reply import Reply

OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")
BYE = Reply(221, "2.0.0", "Bye")
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
LOGGED_IN = Reply(235, "2.7.0", "Authentication successful")
SEND_CONTENT = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
CANNOT_VERIFY = Reply(252, "2.0.0", "Cannot verify, but will take mail for it and try")
HELP = Reply(214, "2.0.0", "EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT; see RFC 5321 and RFC 6409")

# 421 closes the connection.
TIMEOUT = Reply(421, "4.4.2", "Timeout, closing the connection")
STOPPING = Reply(421, "4.3.2", "Service is stopping, try again")
TOO_MANY_CONNECTIONS = Reply(421, "4.3.2", "Too many connections, try again later")
TOO_MUCH_JUNK = Reply(421, "4.7.0", "Too many commands without mail")
TOO_MANY_FAILURES = Reply(421, "4.7.0", "Too many failed logins")
TLS_WITHOUT_STARTTLS = Reply(421, "4.7.0", "TLS begins with STARTTLS here")
PLAINTEXT_AFTER_STARTTLS = Reply(421, "4.7.0", "Nothing may be sent between STARTTLS and the handshake")

UNAVAILABLE = Reply(451, "4.3.0", "Temporary failure, try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
NO_MEMORY = Reply(452, "4.3.1", "Too much mail is being received, try again later")
NO_STORAGE = Reply(452, "4.3.1", "Insufficient system storage, try again later")
TOO_MANY_GUESSES = Reply(454, "4.7.0", "Too many failed logins, try again in a minute")
LOGIN_UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure")

UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognised")
MALFORMED_COMMAND = Reply(500, "5.5.2", "Syntax error: a command is printable ASCII and ends with CRLF")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
MALFORMED_ARGUMENT = Reply(501, "5.5.2", "Syntax error in the argument")
NO_ARGUMENT = Reply(501, "5.5.4", "This command takes no argument")
NEEDS_ARGUMENT = Reply(501, "5.5.4", "This command needs an argument")
BAD_CLIENT_NAME = Reply(501, "5.5.4", "Name yourself by a domain or an address literal")
CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")
UNKNOWN_CHUNK = Reply(501, "5.5.4", "BDAT needs the number of octets that follow; nobody can tell them from commands")
NOT_HTTP = Reply(502, "5.5.1", "This is not HTTP")
EHLO_FIRST = Reply(503, "5.5.1", "Send EHLO first")
MAIL_FIRST = Reply(503, "5.5.1", "Send MAIL first")
RCPT_FIRST = Reply(503, "5.5.1", "Send RCPT first: no recipient was accepted")
CHUNKS_BEGUN = Reply(503, "5.5.1", "BDAT has begun: the rest of the message comes by BDAT too")
NESTED_MAIL = Reply(503, "5.5.1", "A mail transaction is open")
LOGGED_IN_ALREADY = Reply(503, "5.5.1", "Authenticated already")
TLS_ALREADY = Reply(503, "5.5.1", "TLS is active already")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Authentication mechanism not recognised")
TLS_FIRST = Reply(530, "5.7.0", "Send STARTTLS first")
LOGIN_FIRST = Reply(530, "5.7.0", "Authentication required")
USER_GONE = Reply(535, "5.7.8", "Authentication credentials are no longer valid")
SENDER_NOT_OWNED = Reply(550, "5.7.1", "Reverse-path: you may not send as this address")
CONTENT_BEFORE_REPLY = Reply(554, "5.5.0", "Wait for the reply to DATA before sending the message")


def format_reply(reply: Reply) -> bytes:
    """Write a reply of one line."""
    return f"{reply}\r\n".encode()


def format_lines(code: int, lines: tuple[str, ...]) -> bytes:
    """Write a reply of several lines (RFC 5321 section 4.2.1)."""
    *first, last = lines
    return "".join([*(f"{code}-{line}\r\n" for line in first), f"{code} {last}\r\n"]).encode()
