"""Doorbells on RabbitMQ: one bounded quorum queue a door.

What differs from Dramatiq's own RabbitMQ broker, and why:

* *One bounded queue a door.* ``x-max-length`` keeps it at its bound, ``x-expires`` lets it go when nobody has listened for a
  day. No delay queue and no dead letters beside it: timers and failures live in Postgres.
* *Nobody waits for a confirmation.* A doorbell may be lost; a confirmation is a write to the disks of a majority. Only the first
  ring on a channel is followed by a question, as who may not publish is told nothing otherwise.
* *Acknowledged when answered*, which is after the claim and long before the end of the work. A handler of hours holds no
  message, so the server's ``consumer_timeout`` is no matter; a worker that dies with doorbells in its hands has them rung
  again by the server at once.
* *The prefetch is the number of doorbells that can be answered*, so that one wakes one worker, and the others' stay in the queue.

A queue that was declared with other arguments, by another release or by hand, is used as it is.

Relied on: messages of one channel stay in order; closing a channel gives back what was not acknowledged; a name of a queue has
at most 255 bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from dramatiq import Middleware
from pika import BasicProperties, BlockingConnection, URLParameters
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker
from pika.spec import Basic

from cnstra.workers.doorbell.consumer import Delivery
from cnstra.workers.doorbell.doorbells import BrokerFacts, Doorbells
from cnstra.workers.doorbell.rabbit_line import Line

T = TypeVar("T")

_UNHEARD_QUEUE_EXPIRES = 24 * 3600 * 1000  # milliseconds
_LONGEST_NAME = 255  # bytes
_DECLARED_OTHERWISE = 406
_NOT_THERE = 404

_PROPERTIES = BasicProperties(content_type="application/json", delivery_mode=1)


class QuorumDoorbells(Doorbells):
    """Each queue is a quorum queue of at most so many messages.

    Args:
        servers: where RabbitMQ is: its nodes, in the order in which they are tried.
        shown: the URL without secrets, for messages.
        namespace: what the names of all queues begin with.
        wait: seconds that a source waits for a doorbell.
        outstanding: how many doorbells may wait in a queue.
        middleware: the only middleware there is.
    """

    def __init__(
        self,
        servers: Sequence[URLParameters],
        *,
        shown: str,
        namespace: str,
        wait: float,
        outstanding: int,
        middleware: Sequence[Middleware],
    ) -> None:
        super().__init__(wait=wait, outstanding=outstanding, middleware=middleware)
        self._servers = servers
        self._shown = shown
        self._prefix = f"{namespace}:doorbells:"
        self._of_process: dict[int, _Here] = {}

    def _here(self) -> _Here:
        """What this process has of its own: a parent's socket and thread are not its forked child's."""
        pid = os.getpid()
        here = self._of_process.get(pid)
        if here is None:  # two threads may come by here: both have what one of them has made
            here = self._of_process.setdefault(pid, _Here(self._servers, self._shown))
        return here

    # What the bell asks.

    def push(self, messages: Mapping[str, Sequence[bytes]]) -> bool:
        """Returns when the messages are sent. What makes a queue exceed its bound drives the oldest out."""
        bodies = {self.name_of(queue): of_queue for queue, of_queue in messages.items()}

        here = self._here()

        def publish(connection: BlockingConnection) -> None:
            for name in bodies.keys() - here.declared:
                self.declare(connection, name)
                here.declared.add(name)
            channel, is_new = here.ringing_on(connection)
            for name, of_queue in bodies.items():
                for body in of_queue:
                    channel.basic_publish("", name, body, _PROPERTIES, mandatory=True)
            if is_new:
                _hear_refusal(channel)

        here.line.call(publish)
        return True

    def qsize(self, queue: str) -> int:
        name = self.name_of(queue)

        def ask(connection: BlockingConnection) -> int:
            channel = connection.channel()
            try:
                count: int = channel.queue_declare(name, passive=True).method.message_count
            except ChannelClosedByBroker as error:
                if error.reply_code != _NOT_THERE:
                    raise
                return 0
            channel.close()
            return count

        return self.call(ask)

    # What a doctor asks.

    def facts(self) -> BrokerFacts:
        def ask(connection: BlockingConnection) -> Mapping[str, object]:
            channel = connection.channel()
            channel.basic_publish("", self._prefix, b"", _PROPERTIES, mandatory=True)  # no queue has this name
            _hear_refusal(channel)
            channel.close()
            return _server_properties(connection)

        said = self.call(ask)
        return BrokerFacts(
            kind=str(said.get("product", "AMQP")), version=str(said.get("version", "of unknown version"))
        )

    # What the listener and its sources ask.

    def source(self, queue: str, slots: int) -> _Deliveries:
        source = _Deliveries(self, self.name_of(queue), slots)
        self._here().sources.add(source)
        return source

    def hush(self) -> None:
        self.stopping.set()
        for source in list(self._here().sources):
            source.wake()

    def forget(self, source: _Deliveries) -> None:
        """It hands out nothing any more."""
        self._here().sources.discard(source)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if (here := self._of_process.get(os.getpid())) is not None:
            here.line.close()

    def call(self, do: Callable[[BlockingConnection], T]) -> T:
        """Do something with the connection. Raises ``BrokerAway``."""
        return self._here().line.call(do)

    def post(self, do: Callable[[BlockingConnection], object]) -> None:
        """The same, if there is a connection, and not waiting for it."""
        self._here().line.post(do)

    def name_of(self, queue: str) -> str:
        """What a queue is called at the server; a name that is too long ends in a digest of it."""
        name = self._prefix + queue
        if len(name.encode()) <= _LONGEST_NAME:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()
        return name.encode()[: _LONGEST_NAME - len(digest) - 1].decode(errors="ignore") + "~" + digest

    # In the line's thread.

    def declare(self, connection: BlockingConnection, name: str) -> None:
        """Make the queue, unless it is there."""
        channel = connection.channel()
        arguments = {
            "x-queue-type": "quorum",
            "x-max-length": self.outstanding,
            "x-expires": _UNHEARD_QUEUE_EXPIRES,
        }
        try:
            channel.queue_declare(name, durable=True, arguments=arguments)
        except ChannelClosedByBroker as error:
            if error.reply_code != _DECLARED_OTHERWISE:
                raise
        else:
            channel.close()


class _Here:
    """The line of one process, and what goes with it. Once it is made, only the line's thread touches it; but for ``sources``."""

    def __init__(self, servers: Sequence[URLParameters], shown: str) -> None:
        self.line = Line(servers, shown=shown, cut=self._cut)
        self.sources: set[_Deliveries] = set()
        self.declared: set[str] = set()
        self._ringing: BlockingChannel | None = None

    def ringing_on(self, connection: BlockingConnection) -> tuple[BlockingChannel, bool]:
        """Where this process rings, and whether that is new: then nobody knows yet whether it may."""
        if self._ringing is not None and self._ringing.is_open:
            return self._ringing, False
        self._ringing = connection.channel()
        self._ringing.add_on_return_callback(self._returned)
        return self._ringing, True

    def _returned(self, _channel: object, method: Basic.Return, _properties: object, _body: bytes) -> None:
        """A doorbell came back, for its queue is gone: it expired, or somebody deleted it. The next one makes it again."""
        self.declared.discard(str(method.routing_key))

    def _cut(self) -> None:
        self._ringing = None
        self.declared.clear()  # the next server may be another
        for source in list(self.sources):
            source.cut()


class _Deliveries:
    """The source of one consumer: what the server has sent on a channel of its own, no more than it has slots."""

    def __init__(self, broker: QuorumDoorbells, name: str, slots: int) -> None:
        self._broker = broker
        self._name = name
        self._slots = slots
        self._channel: BlockingChannel | None = None
        self._listening = False
        self._arrived: SimpleQueue[Delivery | None] = SimpleQueue()

    def take(self) -> Delivery | None:
        if self._broker.stopping.is_set():
            return None
        if self._channel is None or not self._channel.is_open or not self._listening:
            self._broker.call(self._listen)
        try:
            return self._arrived.get(timeout=self._broker.wait)
        except Empty:
            return None

    def answered(self, delivery: Delivery) -> None:
        channel, tag = delivery.tag
        self._broker.post(lambda _connection: channel.basic_ack(tag))

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """When the channel closes, they go back with all else that was not answered."""

    def close(self) -> None:
        self._broker.post(self._leave)  # a connection that is gone has left already
        self._broker.forget(self)

    def wake(self) -> None:
        """Let who waits return."""
        self._arrived.put(None)

    # In the line's thread.

    def cut(self, *_reason: object) -> None:
        """The connection is gone, or the queue: who waits comes back and listens anew."""
        self._listening = False
        self.wake()

    def _listen(self, connection: BlockingConnection) -> None:
        self._leave(connection)
        self._broker.declare(connection, self._name)
        self._channel = channel = connection.channel()
        channel.basic_qos(prefetch_count=self._slots)
        channel.add_on_cancel_callback(self.cut)
        self._listening = True
        channel.basic_consume(self._name, self._arrives)

    def _leave(self, _connection: BlockingConnection) -> None:
        if self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _arrives(self, channel: BlockingChannel, method: Basic.Deliver, _properties: object, body: bytes) -> None:
        self._arrived.put(Delivery(body, (channel, method.delivery_tag)))


def _hear_refusal(channel: BlockingChannel) -> None:
    """Raise if the server has refused what was published here: it closes the channel then, and tells the publisher nothing. Any
    question to the channel is answered after that; this one needs no permission and changes nothing.
    """
    channel.basic_qos(prefetch_count=0)


def _server_properties(connection: BlockingConnection) -> Mapping[str, object]:
    """What the server told of itself when it took the connection. The blocking connection does not show it."""
    properties: Mapping[str, object] = connection._impl.server_properties
    return properties
