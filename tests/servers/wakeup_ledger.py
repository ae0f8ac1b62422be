"""Names in the database in which tests/servers/wakeup_app.py writes down what ran."""

LEDGER = "ran"
GATE = "open"
"""A key: until it is there, tasks that the test holds up do not end."""
