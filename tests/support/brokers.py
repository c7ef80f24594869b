"""A database of the broker for one test: that of the test kit.

A test that must not find its broker touched by others takes servers of its own (the fixture ``own_servers``):
FLUSHALL empties every database, those of the tests beside it, too.
"""

from __future__ import annotations

from cnstra.testing.fresh import fresh_broker

__all__ = ["fresh_broker"]
