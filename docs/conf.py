"""How the documentation is built: ``sphinx-build -W --keep-going -b html docs docs/_build`` (``make check`` does it)."""

from __future__ import annotations

from importlib import metadata

from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers

project = "CNStra for Python"
author = "The CNStra for Python authors"
copyright = f"2026, {author}"
release = metadata.version("cnstra")
version = release

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"CNStra for Python {release}"

# Pygments does not know the language of the diagrams; where the page is read on a code host, it is drawn there.
lexers["mermaid"] = TextLexer()
