"""The command ``cnstra``.

Each module here is one or a few commands: they read a command line, call what does the work, and print. They refuse to
decide anything about runs, and hold no SQL but what a user types. What all commands share: options and their environment
twins (`options`), where the servers are (`places`), what is printed (`printing`), and how an error ends (`program`).
"""

from __future__ import annotations

from cnstra.cli.program import main

__all__ = ["main"]
