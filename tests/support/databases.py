"""A database for one test: that of the test kit."""

from __future__ import annotations

from cnstra.testing.fresh import fresh_database, name_of

__all__ = ["fresh_database", "name_of"]
