"""Celery shell: what a wake-up does. Each is claim, decide (core), act (adapter), record."""
