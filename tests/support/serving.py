"""A worker in the test's own process: that of the test kit."""

from __future__ import annotations

from cnstra.testing.serving import serving

__all__ = ["serving"]
