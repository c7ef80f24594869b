"""What a collateral may carry: a declared Python type, its exact JSON form, and the way back."""

from __future__ import annotations

from cnstra.orchestrator.graph.payload.plain import exact_json
from cnstra.orchestrator.graph.payload.types import PayloadType

__all__ = ["PayloadType", "exact_json"]
