"""The Celery app that ``celery -A ptt worker -Q sign`` and ``-Q relay`` find."""

from ptt.workers.app import build_app

app = build_app()
