"""The submission server: aiosmtpd's life cycle, and commands, content and logins read to the letter."""
