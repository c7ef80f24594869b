"""A context store on Redis, as a user would write it: JSON under one key, for an hour."""

from __future__ import annotations

import json
from typing import Any

import redis


class SessionStore:
    """The context of one session."""

    def __init__(self, client: redis.Redis, session: str) -> None:
        self._client = client
        self._key = f"checkout:session:{session}"

    def get(self) -> Any:
        text: Any = self._client.get(self._key)
        return None if text is None else json.loads(text)

    def set(self, value: Any) -> None:
        self._client.set(self._key, json.dumps(value), ex=3600)
