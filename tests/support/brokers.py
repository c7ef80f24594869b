"""A database of the broker for one test, empty at its beginning and emptied at its end.

A test that must not find its broker touched by others takes servers of its own (the fixture ``own_servers``):
FLUSHALL empties every database, those of the tests beside it, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import redis

from cnstra.servers.locks import FileLock


@contextmanager
def fresh_broker(server_url: str, claims: Path) -> Iterator[str]:
    """The URL of an empty database of the server at `server_url`; `claims` is a folder that all who ask
    share.

    One that holds anything is passed over, since on a server of the user's own it is the user's.
    """
    number = 0
    while True:
        number += 1  # 0 is left to whoever uses the server's plain URL
        url = urlsplit(server_url)._replace(path=f"/{number}").geturl()
        claim = FileLock(claims / f"broker-{number}.lock")
        try:
            if not claim.try_exclusive():
                continue
            with redis.Redis.from_url(url) as client:
                if client.dbsize():  # raises once the numbers have run out
                    continue
                try:
                    yield url
                finally:
                    client.flushdb()
                return
        finally:
            claim.close()
