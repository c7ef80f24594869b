"""Blobs of contexts in a real Redis or Valkey: kept without expiry, read in one call, deleted, and found again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from cnstra import ConfigurationError
from cnstra.stores.blobs import BlobStore, RedisBlobStore

KEY = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f10/1-1-ff-0-0a"


@pytest.fixture
def client(broker_url: str) -> Iterator[Any]:
    """A client of an empty database."""
    with redis.Redis.from_url(broker_url, socket_timeout=5) as client:
        yield client


def test_a_blob_comes_back_byte_for_byte_and_never_expires(client: Any) -> None:
    """Whatever bytes they are."""
    store: BlobStore = RedisBlobStore(client)
    data = bytes(range(256)) * 100
    store.put(KEY, data)
    store.put(KEY, data)
    assert store.get(KEY) == data
    assert client.keys("*") == [b"cnstra:blob:" + KEY.encode()]
    assert client.ttl("cnstra:blob:" + KEY) == -1


def test_many_are_got_in_one_call_in_their_order(client: Any) -> None:
    """One that is not there is None in its place."""
    store = RedisBlobStore(client)
    for number in range(5):
        store.put(str(number), b"%d" % number)
    before = client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
    assert store.get_many(["3", "none", "0", "4"]) == [b"3", None, b"0", b"4"]
    assert client.info("commandstats")["cmdstat_mget"]["calls"] == before + 1
    assert store.get_many([]) == []


def test_deleted_blobs_are_gone_and_missing_ones_are_no_error(client: Any) -> None:
    """Also none at all."""
    store = RedisBlobStore(client)
    store.put("a", b"1")
    store.put("b", b"2")
    store.delete(iter(["a", "never"]))
    store.delete([])
    assert (store.get("a"), store.get("b")) == (None, b"2")


def test_two_prefixes_are_two_stores(client: Any) -> None:
    """Also where a prefix has characters that a pattern would take for its own."""
    one, other = RedisBlobStore(client, "one[*]:"), RedisBlobStore(client, "one*:")
    one.put(KEY, b"1")
    other.put("k", b"2")
    assert (other.get(KEY), other.get("k")) == (None, b"2")
    assert (list(one.keys()), list(other.keys())) == ([KEY], ["k"])
    assert list(one.keys(KEY[:36])) == [KEY]
    assert list(one.keys("0192")) == [KEY]
    assert list(one.keys("ffff")) == []


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda url: redis.asyncio.Redis.from_url(url), "async"),
        (lambda url: redis.Redis.from_url(url, decode_responses=True), "decode_responses"),
        (lambda url: url, "no client"),
    ],
    ids=["asyncio", "decoding", "a URL"],
)
def test_a_client_that_cannot_do_it_is_refused(broker_url: str, make: Any, problem: str) -> None:
    """When the store is made, and not when the first hop wants to put."""
    with pytest.raises(ConfigurationError, match=problem):
        RedisBlobStore(make(broker_url))


@pytest.mark.parametrize("url", ["http://h", "redis://h:port/0", "nothing"])
def test_a_url_that_is_none_is_refused_without_being_shown(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError, match="redis://user:password@host:port/number") as caught:
        RedisBlobStore.from_url(url)
    assert caught.value.__suppress_context__


def test_a_server_that_is_away_raises(own_port: int) -> None:
    """So that nobody takes it for a loss."""
    store = RedisBlobStore.from_url(f"redis://127.0.0.1:{own_port}/0")
    for call in (
        lambda: store.get("k"),
        lambda: store.get_many(["k"]),
        lambda: store.put("k", b""),
        lambda: store.delete(["k"]),
    ):
        with pytest.raises(redis.ConnectionError):
            call()


@pytest.fixture
def own_port() -> int:
    """A port at which nobody listens."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
