"""The outbound half of an SMTP service: submission, DKIM signing and relay."""

__version__ = "0.1.0"
