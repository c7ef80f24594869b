"""Temporary folders for servers: those of the test kit."""

from __future__ import annotations

from cnstra.testing.homes import delete_home, new_home, remove_home, temporary_home

__all__ = ["delete_home", "new_home", "remove_home", "temporary_home"]
