"""The Redis context store: clients of all kinds, what it leaves on the server, and replies that are lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from cnstra.orchestrator.errors import ConfigurationError, ContextError, StoreUnavailable
from cnstra.stores import RedisContextStore
from support.context_stores import Zipped
from support.wire import Wire


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


# -- clients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decode_responses": True},
        {"decode_responses": True, "encoding": "latin-1"},
        {"protocol": 2},
        {"protocol": 3},
        {"single_connection_client": True},
        {"max_connections": 1},
    ],
    ids=str,
)
def test_every_kind_of_client_serves(broker_url: str, options: dict[str, Any]) -> None:
    """However it reads and whatever it makes of text: bytes of a codec, too, come back as they were."""
    with redis.Redis.from_url(broker_url, **options) as client:
        for codec in (None, Zipped()):
            store = RedisContextStore(client, "ünï", codec=codec)
            store.set({"text": "é🎈\x01"})
            assert store.get() == {"text": "é🎈\x01"}
            assert store.update(lambda value: [value["text"]]) == ["é🎈\x01"]
            assert store.compare_and_set("new", store.version)
            assert not store.compare_and_set("newer", 1)


def test_the_client_of_a_sentinel_serves(broker_url: str) -> None:
    """What ``Sentinel.master_for`` gives is taken, and asks the Sentinel for the master; here it finds one."""
    url = redis.Redis.from_url(broker_url).connection_pool.connection_kwargs

    class Watching(Sentinel):
        """Stands for the Sentinels: it knows where the master is."""

        def discover_master(self, service_name: str) -> tuple[str, int]:
            assert service_name == "main"
            return url["host"], url["port"]

    sentinel = Watching([("127.0.0.1", 1)])
    account = {name: url[name] for name in ("username", "password", "db") if name in url}
    with sentinel.master_for("main", **account) as client:
        assert isinstance(client.connection_pool, SentinelConnectionPool)
        store = RedisContextStore(client, "session-123")
        store.set({"a": 1})
        assert store.update(lambda value: {"a": value["a"] + 1}) == {"a": 2}
        assert store.get() == {"a": 2}


def test_a_sentinel_that_knows_no_master_is_an_outage() -> None:
    """As any server that cannot be reached."""
    sentinel = Sentinel([("127.0.0.1", 1)], sentinel_kwargs={"retry": Retry(NoBackoff(), 0)})
    with sentinel.master_for("main", retry=Retry(NoBackoff(), 0)) as client:
        store = RedisContextStore(client, "session-123")
        for use in (store.get, lambda: store.set({"card": "hush"})):
            with pytest.raises(StoreUnavailable, match="'cnstra:ctx:session-123' on Redis") as away:
                use()
            assert "hush" not in str(away.value)


def test_what_is_no_sync_client_is_refused_when_the_store_is_made(client: redis.Redis, broker_url: str) -> None:
    """Async clients and pipelines, which answer later, above all."""
    with pytest.raises(ConfigurationError, match=r"not a redis\.asyncio one"):
        RedisContextStore(redis.asyncio.Redis.from_url(broker_url), "s")  # type: ignore[arg-type]
    for other in (client.pipeline(), client.connection_pool, broker_url, None):
        with pytest.raises(ConfigurationError, match=r"give it a redis\.Redis"):
            RedisContextStore(other, "s")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"session_id": ""}, {"session_id": None}, {"session_id": 7}, {"prefix": None}, {"session_id": "\ud800"}],
    ids=repr,
)
def test_what_is_no_name_is_refused_when_the_store_is_made(client: redis.Redis, options: dict[str, Any]) -> None:
    """A context needs one of its own."""
    with pytest.raises(ConfigurationError, match=r"session_id|prefix"):
        RedisContextStore(client, **{"session_id": "s", **options})


@pytest.mark.parametrize(
    "ttl", [0, -1, 0.0001, float("nan"), float("inf"), True, "60", timedelta(0), timedelta(40_000)]
)
def test_what_is_no_lifetime_is_refused_when_the_store_is_made(client: redis.Redis, ttl: Any) -> None:
    """Neither none at all, nor one that no calendar has."""
    with pytest.raises(ConfigurationError, match="ttl is"):
        RedisContextStore(client, "s", ttl=ttl)


# -- on the server -------------------------------------------------------------------------------------------------


def test_a_context_is_one_key_that_lives_an_hour(client: redis.Redis) -> None:
    """Below the prefix, with the session's id; a deletion leaves its version, and nothing of the value."""
    store = RedisContextStore(client, "session-123")
    store.set({"secret": 1})
    assert client.keys() == [b"cnstra:ctx:session-123"]
    assert 3590 < client.ttl("cnstra:ctx:session-123") <= 3600  # type: ignore[operator]
    store.delete()
    assert client.hgetall("cnstra:ctx:session-123") == {b"v": str(store.version).encode()}


def test_prefix_and_session_are_the_name(client: redis.Redis) -> None:
    """Given as they are in the documentation, by place or by name; a UUID is its text."""
    session = UUID(int=7)
    RedisContextStore(client, session, 60, "app:").set(1)
    assert client.keys() == [f"app:{session}".encode()]
    assert client.ttl(f"app:{session}") == 60
    assert RedisContextStore(client, session_id=str(session), prefix="app:", ttl=timedelta(minutes=1)).get() == 1


def test_versions_begin_at_the_servers_clock(client: redis.Redis) -> None:
    """In microseconds, so that no later beginning comes below an earlier end."""
    seconds, micros = client.time()  # type: ignore[misc]
    store = RedisContextStore(client, "s")
    store.set(1)
    assert store.version >= seconds * 1_000_000 + micros
    assert store.version < 2**53


def test_microseconds_keep_their_zeros(client: redis.Redis) -> None:
    """A clock at 7 microseconds past the second does not make a version that is 10,000 times too small."""
    digits = set()
    for number in range(300):
        store = RedisContextStore(client, str(number), ttl=60)
        store.set(1)
        digits.add(len(str(store.version)))
    assert digits == {16}


def test_a_server_that_forgot_the_script_is_given_it_again(client: redis.Redis) -> None:
    """After a restart, a failover, SCRIPT FLUSH."""
    store = RedisContextStore(client, "s")
    store.set(1)
    for use in (store.get, lambda: store.update(lambda value: 1), lambda: store.version):
        client.script_flush()
        use()
    assert store.get() == 1


@pytest.mark.parametrize("other", ["string", "list", "hash", "hash with a v"])
def test_a_key_of_somebody_else_is_left_as_it_is(client: redis.Redis, other: str) -> None:
    """What is no context is neither read as one, nor written over by a compare-and-set or an update."""
    key = "cnstra:ctx:s"
    {
        "string": lambda: client.set(key, "theirs"),
        "list": lambda: client.rpush(key, "theirs"),
        "hash": lambda: client.hset(key, "name", "theirs"),
        "hash with a v": lambda: client.hset(key, "v", "theirs"),
    }[other]()
    before = client.dump(key)
    store = RedisContextStore(client, "s")
    uses = [
        store.get,
        lambda: store.version,
        lambda: store.update(lambda value: 1),
        lambda: store.set(1),
        store.delete,
    ]
    for use in uses:
        with pytest.raises((ContextError, StoreUnavailable), match=r"not a context|refused"):
            use()
    assert client.dump(key) == before


# -- lost replies --------------------------------------------------------------------------------------------------


class LosesReplies(Wire):
    """A wire that, once armed, lets the next script through, and loses its reply with the connection."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.armed = threading.Event()
        self.lost = threading.Event()
        self._asking: Any = None

    def _passes(self, data: bytes, source: Any, target: Any) -> bool:
        if b"EVALSHA" in data and self.armed.is_set():
            self.armed.clear()
            self._asking = target
        elif source is self._asking:
            self._asking = None
            self.lost.set()
            return False
        return True


def test_a_write_whose_reply_was_lost_is_not_made_twice(client: redis.Redis, broker_url: str) -> None:
    """Though the client would send it again: the caller learns that nobody knows, and the update counts once."""
    mine = RedisContextStore(client, "s")
    mine.set({"n": 1})
    version = mine.version
    with (
        LosesReplies(broker_url) as wire,
        redis.Redis.from_url(wire.url, retry=Retry(NoBackoff(), 5)) as other,
    ):
        store = RedisContextStore(other, "s")
        read = store.get_versioned()
        for write in (
            lambda: store.compare_and_set({"n": 2}, read.version),
            lambda: store.set({"n": 3}),
            store.delete,
        ):
            wire.lost.clear()
            wire.armed.set()
            with pytest.raises(StoreUnavailable, match="'cnstra:ctx:s' on Redis"):
                write()
            assert wire.lost.is_set()
            version += 1
            assert mine.version == version
        assert store.update(lambda value: {"n": value}) == {"n": None}
        assert mine.version == version + 1


def test_a_read_whose_reply_was_lost_is_asked_again(client: redis.Redis, broker_url: str) -> None:
    """As the client's rules say: it changes nothing."""
    RedisContextStore(client, "s").set({"n": 1})
    with (
        LosesReplies(broker_url) as wire,
        redis.Redis.from_url(wire.url, retry=Retry(NoBackoff(), 5)) as other,
    ):
        store = RedisContextStore(other, "s")
        store.get()
        wire.armed.set()
        assert store.get() == {"n": 1}
        assert wire.lost.is_set()


def test_connections_that_were_cut_meanwhile_cost_nobody_a_write(client: redis.Redis, broker_url: str) -> None:
    """An idle connection that has gone is found out before anything is sent over it."""
    with Wire(broker_url) as wire, redis.Redis.from_url(wire.url) as other:
        store = RedisContextStore(other, "s")
        store.set([1])
        wire.cut()
        assert store.update(lambda value: [*value, 2]) == [1, 2]
        wire.cut()
        store.set([3])
    assert RedisContextStore(client, "s").get() == [3]


def test_an_interrupted_write_gives_no_reply_to_the_next_one(client: redis.Redis, monkeypatch: Any) -> None:
    """A connection with a reply on its way goes back to nobody."""
    store = RedisContextStore(client, "s")
    store.set("first")
    real = client.parse_response

    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "parse_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.set("second")
    monkeypatch.setattr(client, "parse_response", real)
    assert store.get() in ("first", "second")
    store.set("third")
    assert store.get() == "third"
    assert client.ping()
