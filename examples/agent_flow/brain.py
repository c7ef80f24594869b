"""What the service answers when it answers: a stand-in for a language model and for tools, without chance and memory.

The same request gets the same answer, so that whoever wants to prove something about a run can work out what should be in it.
"""

from __future__ import annotations

import hashlib
from typing import Any

TOOLS = ("search", "maps", "weather", "prices", "opening hours", "reviews", "trains", "fax")
BROKEN = "fax"
ENDLESS = "watch"


class BadRequest(Exception):
    """Asking again will not help."""


def answer(path: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request. Raises ``BadRequest``."""
    match path:
        case "/plan":
            return plan(asked["question"], asked["round"])
        case "/tool":
            return tool(asked["tool"], asked["question"], asked["page"])
        case "/summarise":
            return {"text": f"{asked['question']} After {len(asked['findings'])} findings: yes, gladly."}
    raise BadRequest(f"there is no {path} here")


def plan(question: str, number: int) -> dict[str, Any]:
    """Which tools to use in this round; or that enough is known."""
    if ENDLESS in question:
        return {"done": False, "tools": [ENDLESS]}
    if number > 1 + _pick(3, question, "rounds"):
        return {"done": True, "tools": []}
    first, many = _pick(len(TOOLS), question, number), 1 + _pick(4, question, number, "tools")
    return {"done": False, "tools": [TOOLS[(first + place) % len(TOOLS)] for place in range(many)]}


def tool(name: str, question: str, page: int) -> dict[str, Any]:
    """A page of what a tool has to say, and whether there are more."""
    if name == BROKEN:
        raise BadRequest(f"nobody answers the {name} any more")
    more = name == ENDLESS or page + 1 < 1 + _pick(3, question, name)
    return {"text": f"{name}, page {page + 1}: {_pick(1_000, question, name, page)}", "more": more}


def _pick(below: int, *what: object) -> int:
    """A number that is always the same for the same thing."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:8]) % below
