"""SMTP client: one attempt at one message over kept connections (aiosmtplib)."""
