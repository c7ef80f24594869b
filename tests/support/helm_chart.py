"""The Helm chart of ``deploy/helm``, rendered by Helm's own library.

That is in a wheel of 75 MB, so it is an extra of its own: ``pip install -e '.[charts]'``. A test that needs it is skipped
without it, and says so.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "cnstra"
ABOUT: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
URLS = {"databaseUrl": "postgresql://cnstra:s3cret@db/cnstra", "brokerUrl": "redis://:s3cret@broker/0"}
PLAIN: dict[str, Any] = {
    "image": {"repository": "registry.example/shop", "tag": "17"},
    "connections": URLS,
    "workers": {"shop": {"app": "shop:cns"}},
}
EVERYTHING: dict[str, Any] = yaml.safe_load((CHART / "ci" / "everything-values.yaml").read_text())
EXAMPLES = {"plain": PLAIN, "everything": EVERYTHING}


def helm_library() -> Any:
    """Helm, or the end of a test that needs it."""
    return pytest.importorskip(
        "helm_python", reason="no helm-python-sdk here (pip install -e '.[charts]'): nothing is rendered"
    )


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifests that an installation named ``demo`` would have."""
    with helm_library().Chart.load(CHART) as chart:
        files = chart.render(values, name="demo", namespace="prod")
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


@cache
def rendered(example: str) -> list[dict[str, Any]]:
    """The same of an example."""
    return render(EXAMPLES[example])


def only(manifests: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """The one manifest of this kind."""
    [found] = [one for one in manifests if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the pods of deployments and jobs are, by the name of these."""
    kinds = ("Deployment", "Job")
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in manifests if one["kind"] in kinds}
