"""A policy as data: what it looks like, what cannot be written, what cannot be read."""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
import types
from datetime import timedelta
from typing import Any

import pytest
import tenacity
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_message,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
)

from cnstra.orchestrator.errors import PolicyError
from cnstra.orchestrator.retry import (
    DEFAULT_POLICY,
    Failure,
    GiveUp,
    RetryAfter,
    Tried,
    from_data,
    judge,
    to_data,
)

WHERE = "submit(retry=)"
FIRST = Tried(attempt_number=1, started=0.5)


class Declined(Exception):
    """Defined at the top of a module: any process can import it."""

    class Softly(Exception):
        """Defined inside a class: its qualified name has a dot."""


def test_a_policy_looks_like_this_as_data() -> None:
    """The format is stored with runs: a change of it needs a new version."""
    policy = Retrying(
        stop=stop_after_attempt(5) | stop_after_delay(timedelta(minutes=2)),
        wait=wait_fixed(1) + tenacity.wait_random(0, 0.5),
        retry=retry_if_exception_type((ConnectionError, subprocess.TimeoutExpired))
        | retry_if_exception_message(match=re.compile("busy", re.IGNORECASE)),
    )

    assert to_data(policy, WHERE) == {
        "version": 1,
        "stop": {
            "name": "stop_any",
            "parts": [
                {"name": "stop_after_attempt", "max_attempt_number": 5},
                {"name": "stop_after_delay", "max_delay": 120.0},
            ],
        },
        "wait": {
            "name": "wait_combine",
            "parts": [
                {"name": "wait_fixed", "wait": 1.0},
                {"name": "wait_random", "min": 0.0, "max": 0.5},
            ],
        },
        "retry": {
            "name": "retry_any",
            "parts": [
                {
                    "name": "retry_if_exception_type",
                    "exception_types": ["builtins:ConnectionError", "subprocess:TimeoutExpired"],
                },
                {
                    "name": "retry_if_exception_message",
                    "message": None,
                    "match": {"pattern": "busy", "flags": int(re.IGNORECASE | re.UNICODE)},
                },
            ],
        },
        "reraise": False,
    }


def test_data_of_this_version_will_always_be_read() -> None:
    """The default policy as the first release wrote it, spelt out: it has to mean the same for ever."""
    stored = json.loads(
        '{"version": 1, "stop": {"name": "stop_after_attempt", "max_attempt_number": 3}, "wait": {"name":'
        ' "wait_exponential_jitter", "multiplier": 1, "max": 60.0, "exp_base": 2, "jitter": 1.0, "min": 0.0},'
        ' "retry": {"name": "retry_if_exception_type", "exception_types": ["builtins:Exception"]},'
        ' "reraise": false}'
    )

    assert stored == to_data(DEFAULT_POLICY, WHERE)
    assert to_data(from_data(stored, WHERE), WHERE) == stored


@pytest.mark.parametrize(
    "policy",
    [
        Retrying(),
        AsyncRetrying(stop=stop_after_attempt(2)),
        Retrying(wait=0),
        Retrying(stop=stop_after_attempt(math.inf)),
        Retrying(wait=tenacity.wait_exponential(max=math.inf)),
        Retrying(wait=tenacity.wait_incrementing(start=-math.inf)),
        Retrying(retry=retry_if_exception_type(Declined.Softly)),
        Retrying(retry=retry_if_exception_type(OSError | KeyError), reraise=True),
        Retrying(retry=retry_if_not_exception_message(message="snow ☃ and \\ and ' and \"")),
        Retrying(retry=retry_if_exception_message(match=re.compile("a  # comment", re.VERBOSE))),
    ],
)
def test_what_is_written_is_json_and_reads_as_the_same(policy: Any) -> None:
    """Infinity, unions, nested classes and flags survive strict JSON."""
    data = to_data(policy, WHERE)

    assert to_data(from_data(json.loads(json.dumps(data, allow_nan=False)), WHERE), WHERE) == data


def test_the_flags_of_a_pattern_survive() -> None:
    """A pattern that ignores case still does after the journey."""
    policy = Retrying(retry=retry_if_exception_message(match=re.compile("BUSY", re.IGNORECASE)))

    again = from_data(to_data(policy, WHERE), WHERE)

    assert judge(again, FIRST, Failure(ValueError("busy"))) == RetryAfter(0.0)


@pytest.mark.skipif(not hasattr(Retrying(), "enabled"), reason="tenacity 9.1 has neither")
def test_the_switch_and_the_name_of_tenacity_9_2_survive() -> None:
    """They are written only where they say something."""
    again = from_data(to_data(Retrying(enabled=False, name="bank"), WHERE), WHERE)

    assert again.enabled is False
    assert str(again) == "bank"
    assert not {"enabled", "name"} & to_data(Retrying(), WHERE).keys()


@pytest.mark.parametrize("of", [retry_if_exception_message, retry_if_not_exception_message])
@pytest.mark.parametrize("kept", [{"message": "busy"}, {"match": "bu"}])
def test_a_message_is_found_where_tenacity_9_1_keeps_it(of: type, kept: dict[str, str]) -> None:
    """Tenacity 9.1 has no attributes for it: only the predicate's closure knows."""
    part: Any = of(**kept)
    message, prog = kept.get("message"), re.compile(kept.get("match", ""))
    if "message" in kept:

        def if_predicate(exception: BaseException) -> bool:
            return message == str(exception)
    else:

        def if_predicate(exception: BaseException) -> bool:
            return bool(prog.match(str(exception)))

    expected = to_data(Retrying(retry=part), WHERE)
    old: Any = of(**kept)
    old.__dict__.clear()
    negated = of is retry_if_not_exception_message
    old.predicate = (lambda *given: not if_predicate(*given)) if negated else if_predicate

    assert to_data(Retrying(retry=old), WHERE) == expected


def _on_retry(state: object) -> bool:
    return True


class _MyStop(stop_after_attempt):
    """A strategy of the user's own, though it has tenacity's parameters."""


def _local_exception() -> type[Exception]:
    class Local(Exception):
        pass

    return Local


def _of_module(module: str, name: str = "Shadow") -> type[Exception]:
    return type(name, (Exception,), {"__module__": module, "__qualname__": name})


@pytest.mark.parametrize(
    ("policy", "part", "advice"),
    [
        (Retrying(before=_on_retry), "before is a function", "give this policy to the CNS or a dendrite"),
        (Retrying(after=print), "after is a function", "CNS or a dendrite"),
        (Retrying(before_sleep=print), "before_sleep is a function", "CNS or a dendrite"),
        (Retrying(retry_error_callback=_on_retry), "retry_error_callback", "compensation"),
        (Retrying(sleep=_on_retry), "sleep is", "leave sleep out"),
        (
            Retrying(retry_error_cls=type("E", (tenacity.RetryError,), {})),
            "retry_error_cls",
            "CNS or a dendrite",
        ),
        (Retrying(stop=_on_retry), "stop is _on_retry", "CNS or a dendrite"),
        (Retrying(stop=_MyStop(3)), "stop is _MyStop", "CNS or a dendrite"),
        (Retrying(wait=lambda state: 3), "wait is", "CNS or a dendrite"),
        (
            Retrying(wait=tenacity.wait_combine(wait_fixed(1), lambda state: 3)),
            "wait.parts[1] is",
            "CNS or a dendrite",
        ),
        (Retrying(retry=tenacity.retry_if_exception(_on_retry)), "retry is retry_if_exception,", "dendrite"),
        (Retrying(retry=tenacity.retry_if_result(_on_retry)), "retry is retry_if_result", "dendrite"),
        (
            Retrying(retry=retry_if_exception_type(OSError) & tenacity.retry_if_not_result(_on_retry)),
            "retry.parts[1] is retry_if_not_result",
            "dendrite",
        ),
        (Retrying(retry=retry_if_exception_type(_local_exception())), "Local", "top of its module"),
        (
            Retrying(retry=retry_if_exception_type(_of_module("__main__"))),
            "the script that was started",
            "move it",
        ),
        (
            Retrying(retry=retry_if_exception_type(_of_module("__mp_main__"))),
            "the script that was started",
            "move",
        ),
        (
            Retrying(retry=retry_if_exception_type(_of_module("no_such_module"))),
            "no_such_module:Shadow",
            "deploy",
        ),
        (Retrying(retry=retry_if_exception_type(_of_module(__name__, "Declined"))), "another object", "name"),
        (Retrying(retry=retry_if_exception_type(_of_module(__name__, "Gone"))), "Gone", "cannot be imported"),
        (
            Retrying(retry=retry_if_exception_message(message="a\x00b")),
            "retry.message has a NUL",
            "remove it",
        ),
        (Retrying(retry=retry_if_exception_message(match="\ud800")), "retry.match has", "remove it"),
        (Retrying(retry=retry_if_exception_message(message=3)), "retry.message is a int", "text"),
        (Retrying(stop=stop_after_attempt(10**30)), "stop.max_attempt_number is an integer larger", "float"),
    ],
)
def test_what_no_data_can_say_is_refused_by_name(policy: object, part: str, advice: str) -> None:
    """The error names the place and the part, and says where such a policy can go."""
    with pytest.raises(PolicyError) as refused:
        to_data(policy, WHERE)

    message = str(refused.value)
    assert message.startswith(WHERE)
    assert part in message
    assert advice in message


def test_what_no_worker_could_read_is_refused_before_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type with a name that is none passes every check of the writer; the reader's are made as well."""
    odd = _of_module(__name__, "Odd Name")
    monkeypatch.setitem(globals(), "Odd Name", odd)

    with pytest.raises(PolicyError, match="Odd Name' is no exception's name"):
        to_data(Retrying(retry=retry_if_exception_type(odd)), WHERE)


def test_what_to_data_refuses_may_still_be_given_to_a_dendrite() -> None:
    """The advice in the message is true: the same policy decides, where it need not travel."""
    policy = Retrying(retry=tenacity.retry_if_exception(_on_retry), stop=stop_after_attempt(2))

    assert judge(policy, FIRST, Failure(ValueError())) == RetryAfter(0.0)


VALID: dict[str, Any] = to_data(
    Retrying(
        stop=tenacity.stop_any(stop_after_attempt(5)),
        wait=wait_fixed(1),
        retry=retry_if_exception_type(OSError) | retry_if_exception_message(match="busy"),
    ),
    WHERE,
)


def _with(path: str, value: object) -> dict[str, Any]:
    """The valid data with one place changed; `...` removes it."""
    data: Any = copy.deepcopy(VALID)
    holder, keys = data, [int(key) if key.isdigit() else key for key in path.split("/")]
    for key in keys[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[keys[-1]]
    else:
        holder[keys[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (None, "NoneType where an object belongs"),
        ([], "list where an object belongs"),
        ("{}", "str where an object belongs"),
        ({}, "version None"),
        (_with("version", 2), "version 2"),
        (_with("version", True), "version True"),
        (_with("stop", ...), "lacks stop"),
        (_with("surprise", 1), "has surprise"),
        (_with("reraise", "yes"), "reraise"),
        (_with("enabled", 1), "enabled"),
        (_with("stop", "stop_never"), "stop: a stored policy has a str"),
        (_with("stop/name", "stop_tomorrow"), "stop: a stored policy has 'stop_tomorrow'"),
        (_with("stop/name", "wait_none"), "stop: a stored policy has 'wait_none' as its stop"),
        (_with("stop/name", ["stop_any"]), "stop: a stored policy has ['stop_any']"),
        (_with("stop/parts", 3), "stop.parts: a stored policy has a int"),
        (_with("stop/parts/0/name", "retry_never"), "stop.parts[0]: a stored policy has 'retry_never'"),
        (_with("stop/parts/0/max_attempt_number", "5"), "stop.parts[0].max_attempt_number is '5'"),
        (_with("stop/parts/0/max_attempt_number", True), "stop.parts[0].max_attempt_number is True"),
        (_with("wait/wait", None), "wait.wait is None"),
        (_with("wait/wait", ...), "wait: a stored policy lacks wait"),
        (_with("wait", {"name": "wait_chain", "parts": []}), "wait"),
        (_with("retry/parts/0/exception_types", "builtins:OSError"), "str where a list belongs"),
        (_with("retry/parts/0/exception_types", ["builtins:KeyboardInterrupt"]), "interrupt of the worker"),
        (_with("retry/parts/1/match", "busy"), "retry.parts[1].match: a stored policy has a str"),
        (_with("retry/parts/1/match/pattern", "("), "does not compile"),
        (_with("retry/parts/1/match/flags", None), "the flags of a stored pattern are None"),
        (_with("retry/parts/1/match/flags", 10**40), "does not compile"),
        (_with("retry/parts/1/match", None), "refuses the stored match, message"),
        (_with("retry/parts/1/message", "busy"), "not both"),
    ],
)
def test_data_that_nobody_wrote_is_refused_by_name(data: object, part: str) -> None:
    """A policy that was damaged, or written by a newer release, is an error that says where."""
    with pytest.raises(PolicyError) as refused:
        from_data(data, "run 0198")

    assert str(refused.value).startswith("run 0198")
    assert part in str(refused.value)


def test_data_that_is_nested_without_end_is_refused() -> None:
    """A stack overflow is no answer."""
    stop: dict[str, Any] = {"name": "stop_never"}
    for _ in range(5000):
        stop = {"name": "stop_any", "parts": [stop]}

    with pytest.raises(PolicyError, match="nested deeper than 50"):
        from_data({**VALID, "stop": stop}, WHERE)


@pytest.mark.parametrize(
    "name",
    [
        "os.path",
        "builtins:",
        ":OSError",
        "builtins:OSError:x",
        "__main__:Declined",
        "../etc/passwd:x",
        "a b:C",
        "builtins:f.<locals>.E",
        7,
    ],
)
def test_what_is_no_name_of_an_exception_is_refused_before_anything_is_imported(
    name: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what can be the name of a type is ever imported."""

    def forbidden(module: str) -> types.ModuleType:
        raise AssertionError(module)

    monkeypatch.setattr("importlib.import_module", forbidden)

    with pytest.raises(PolicyError, match="no exception's name"):
        from_data(_with("retry/parts/0/exception_types", [name]), WHERE)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module:Error", "ModuleNotFoundError"),
        ("builtins:NoSuchError", "AttributeError"),
        ("os:getcwd", "is not a type"),
    ],
)
def test_a_name_that_leads_nowhere_here_is_refused(name: str, why: str) -> None:
    """A worker without the code says so, naming the type, so that the run can be left for one that has it."""
    with pytest.raises(PolicyError, match=re.escape(name)) as refused:
        from_data(_with("retry/parts/0/exception_types", [name]), WHERE)

    assert why in str(refused.value)


def test_a_module_that_exits_when_it_is_imported_is_an_error_and_not_the_end_of_the_worker(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script without a main guard is named like any module that cannot be imported."""
    (tmp_path / "script_that_exits.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(PolicyError, match="script_that_exits:Error cannot be imported here"):
        from_data(_with("retry/parts/0/exception_types", ["script_that_exits:Error"]), WHERE)


def test_an_exception_of_the_script_that_was_started_is_refused_in_the_real_thing(tmp_path: Any) -> None:
    """What a user does first: everything in one file, run by its path."""
    script = tmp_path / "shop.py"
    script.write_text(
        "from tenacity import Retrying, retry_if_exception_type\n"
        "from cnstra.orchestrator.errors import PolicyError\n"
        "from cnstra.orchestrator.retry import to_data\n"
        "class Declined(Exception): ...\n"
        "try:\n"
        "    to_data(Retrying(retry=retry_if_exception_type(Declined)), 'submit(retry=)')\n"
        "except PolicyError as error:\n"
        "    print(error)\n"
    )

    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)

    assert "Declined is defined in the script that was started" in told.stdout


def test_a_policy_that_was_read_retries_only_the_exceptions_that_it_names() -> None:
    """Types found again by name are the very types: subclasses count, others do not."""
    policy = Retrying(retry=retry_if_exception_type((Declined, OSError)), stop=stop_after_attempt(3))
    again = from_data(json.loads(json.dumps(to_data(policy, WHERE))), WHERE)
    other = ValueError()

    assert judge(again, FIRST, Failure(Declined())) == RetryAfter(0.0)
    assert judge(again, FIRST, Failure(ConnectionResetError())) == RetryAfter(0.0)
    assert judge(again, FIRST, Failure(other)) == GiveUp(other)
