"""Asking the service: a JSON request over HTTP, without anything but the standard library.

A client of your own would be ``httpx`` or ``aiohttp``. This one is as async as they are: when a handler is cancelled, because
its time is over, the connection is closed and nothing of it goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any
from urllib.parse import urlsplit

URL = "AGENT_FLOW_SERVICE"


class ServiceDown(Exception):
    """The service does not answer as it should; it may answer the next time."""


class Refused(Exception):
    """The service will not do this, however often it is asked."""


async def ask(what: str, *, key: str, **asked: Any) -> dict[str, Any]:
    """The answer to a request, which is billed once by ``key``. Raises ``ServiceDown`` or ``Refused``."""
    try:
        status, said = await _post(f"/{what}", json.dumps(asked).encode(), key)
    except (OSError, EOFError, ValueError) as error:
        raise ServiceDown(f"{what}: {error!r}") from error
    if status == 422:
        raise Refused(f"{what}: {said['error']}")
    if status != 200:
        raise ServiceDown(f"{what}: {status}, {said['error']}")
    return said


async def _post(path: str, content: bytes, key: str) -> tuple[int, dict[str, Any]]:
    where = urlsplit(os.environ[URL])
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        head = f"POST {path} HTTP/1.0\r\nIdempotency-Key: {key}\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        answered, _, body = (await reader.read()).partition(b"\r\n\r\n")
        status = int(answered.split(maxsplit=2)[1]) if answered else 0
        return status, json.loads(body)
    finally:
        writer.close()
