"""Log lines show no password, whoever wrote them."""

from __future__ import annotations

import logging

import pytest

from cnstra.running.logs import _Lines

URLS = {
    "postgresql://cnstra:se%40cret@127.0.0.1:5432/shop": ("se%40cret", "se@cret"),
    "redis://:hunter22@127.0.0.1:6379/0": ("hunter22",),
    "redis+sentinel://:hunter22@one:26379,two/broker/0?sentinel_password=hunter33": ("hunter22", "hunter33"),
    "amqp://shop:hunter22@one/;amqp://shop:hunter33@two/": ("hunter22", "hunter33"),
    "host=127.0.0.1 user=cnstra password=letmein": ("letmein",),
    "postgresql://127.0.0.1/shop?user=cnstra&password=letmein": ("letmein",),
}


@pytest.mark.parametrize("url", URLS)
def test_a_password_in_a_message_or_a_traceback_is_covered(url: str) -> None:
    """Also when it stands there without its URL."""
    lines = _Lines([url])
    record = logging.LogRecord("psycopg", logging.WARNING, "x.py", 1, "lost %s", (url,), None)
    record.exc_text = f"Traceback: {URLS[url][-1]}"

    text = lines.format(record)

    assert "lost" in text
    assert all(password not in text for password in URLS[url])


def test_a_url_without_a_password_is_shown() -> None:
    """Nothing is covered that is no secret."""
    lines = _Lines(["postgresql://127.0.0.1/shop"])
    record = logging.LogRecord("psycopg", logging.WARNING, "x.py", 1, "postgresql://127.0.0.1/shop", (), None)

    assert lines.format(record).endswith("Z WARNING psycopg: postgresql://127.0.0.1/shop")
