"""Loading an APP: ``module:attribute`` of a CNS, found from the current folder; a codec, named likewise; and a store of
contexts, named likewise or by its URL.

Owns what is said when that cannot be done: which part is wrong, and what there is instead.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from types import ModuleType

from cnstra.exits import line_of
from cnstra.orchestrator.blobs import USUAL_PLACE, Blobs
from cnstra.orchestrator.codecs import Codec, checked
from cnstra.orchestrator.errors import CnstraError, ConfigurationError
from cnstra.orchestrator.graph import CNS
from cnstra.orchestrator.sealing import Vault


def load(app: str) -> CNS:
    """The CNS that ``app`` names, fit for durable use. The current folder goes first on the module path.

    Raises ``ConfigurationError`` when there is none, or when its module cannot be imported; ``GraphError`` for a graph
    without a name; and, as itself, what a broken graph raises while it is built.
    """
    module, cns = _found("APP", app, usual="cns", instead=_instead)
    if not isinstance(cns, CNS):
        raise ConfigurationError(f"APP {app!r}: it is a {type(cns).__name__}, and no CNS; {_instead(module)}")
    cns.durable_name  # noqa: B018 - raises for a graph without a name
    return cns


def load_codec(given: str) -> Codec:
    """The codec that ``module:attribute`` names.

    Raises ``ConfigurationError`` when there is none, or it cannot be one.
    """
    _, codec = _found("--codec", given, usual="codec", instead=lambda _: "name a codec that stands in it")
    if isinstance(codec, type):
        raise ConfigurationError(f"--codec {given!r}: it is a class; name an object of it")
    return checked(codec)


def load_context(given: str, vault: Vault | None = None) -> Blobs:
    """The store of contexts that ``[NAME=]STORE`` means: ``module:attribute`` of one, or the URL of a Redis. ``vault`` is for
    values that are sealed.

    Raises ``ConfigurationError`` when there is none, or it cannot be one.
    """
    place, where = named_context(given)
    if _URL.match(where):
        from cnstra.stores.blobs import RedisBlobStore  # with a client that takes long to load

        return Blobs(RedisBlobStore.from_url(where), place, vault=vault)
    _, store = _found("--context", where, usual="contexts", instead=lambda _: "name a store that stands in it")
    if isinstance(store, type):
        raise ConfigurationError(f"--context {where!r}: it is a class; name an object of it")
    return Blobs(store, place, vault=vault)


def named_context(given: str) -> tuple[str, str]:
    """The name and the place of ``[NAME=]STORE``."""
    named = _NAMED.fullmatch(given)
    return (named[1], named[2]) if named else (USUAL_PLACE, given)


_NAMED = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)
_URL = re.compile(r"\w+://")


def _found(what: str, app: str, *, usual: str, instead: Callable[[ModuleType], str]) -> tuple[ModuleType, object]:
    """A module, and what ``module:attribute`` names in it. The current folder goes first on the module path."""
    name, colon, path = app.partition(":")
    if not colon or not name or not path or "/" in name or name.endswith(".py"):
        likely = name.removesuffix(".py").strip("./").replace("/", ".") or "shop"
        raise ConfigurationError(f"{what} is module:attribute, as in {likely}:{path or usual}, and {app!r} is not")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _module(f"{what} {app!r}", name)
    found: object = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{what} {app!r}: {name} has no {path!r}; {instead(module)}")
        found = getattr(found, part)
    return module, found


def _module(what: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"{what}: there is no module {error.name!r}; looked in {os.getcwd()} first, then where Python does"
            ) from error
        raise ConfigurationError(f"{what}: importing {name} failed: {line_of(error)}") from error
    except CnstraError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{what}: importing {name} failed: {line_of(error)}") from error


def _instead(module: ModuleType) -> str:
    found = [f"{module.__name__}:{name}" for name, value in vars(module).items() if isinstance(value, CNS)]
    return f"did you mean {' or '.join(found)}?" if found else f"{module.__name__} has no CNS at all"
