"""Loading an APP: ``module:attribute`` of a CNS, found from the current folder.

Owns what is said when that cannot be done: which part is wrong, and what there is instead.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

from cnstra.exits import line_of
from cnstra.orchestrator.errors import CnstraError, ConfigurationError
from cnstra.orchestrator.graph import CNS


def load(app: str) -> CNS:
    """The CNS that ``app`` names, fit for durable use. The current folder goes first on the module path.

    Raises ``ConfigurationError`` when there is none, or when its module cannot be imported; ``GraphError`` for a graph
    without a name; and, as itself, what a broken graph raises while it is built.
    """
    name, colon, path = app.partition(":")
    if not colon or not name or not path or "/" in name or name.endswith(".py"):
        likely = name.removesuffix(".py").strip("./").replace("/", ".") or "shop"
        raise ConfigurationError(f"APP is module:attribute, as in {likely}:{path or 'cns'}, and {app!r} is not")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _module(app, name)
    cns: object = module
    for part in path.split("."):
        if not hasattr(cns, part):
            raise ConfigurationError(f"APP {app!r}: {name} has no {path!r}; {_instead(module)}")
        cns = getattr(cns, part)
    if not isinstance(cns, CNS):
        raise ConfigurationError(f"APP {app!r}: it is a {type(cns).__name__}, and no CNS; {_instead(module)}")
    cns.durable_name  # noqa: B018 - raises for a graph without a name
    return cns


def _module(app: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"APP {app!r}: there is no module {error.name!r}; looked in {os.getcwd()} first, then where Python does"
            ) from error
        raise ConfigurationError(f"APP {app!r}: importing {name} failed: {line_of(error)}") from error
    except CnstraError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"APP {app!r}: importing {name} failed: {line_of(error)}") from error


def _instead(module: ModuleType) -> str:
    found = [f"{module.__name__}:{name}" for name, value in vars(module).items() if isinstance(value, CNS)]
    return f"did you mean {' or '.join(found)}?" if found else f"{module.__name__} has no CNS at all"
