"""The demonstration: ptt as its users start it, between a DNS primary and a destination MX of its own.

It knows of ptt its commands, its ptt.toml, its SMTP ports and its log: what it shows is what any user sees.
"""
