"""The name of the list in which tests/servers/wakeup_app.py writes down what ran."""

LEDGER = "ran"
