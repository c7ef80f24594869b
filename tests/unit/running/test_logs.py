"""Log lines show no password, whoever wrote them."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from cnstra.orchestrator.context import PlacedLog, naming
from cnstra.orchestrator.run_context import Identity
from cnstra.running.logs import Form, formatter, let_be_heard, name_runs, set_up
from support.works import RUN, work

URLS = {
    "postgresql://cnstra:se%40cret@127.0.0.1:5432/shop": ("se%40cret", "se@cret"),
    "redis://:hunter22@127.0.0.1:6379/0": ("hunter22",),
    "redis+sentinel://:hunter22@one:26379,two/broker/0?sentinel_password=hunter33": ("hunter22", "hunter33"),
    "amqp://shop:hunter22@one/;amqp://shop:hunter33@two/": ("hunter22", "hunter33"),
    "host=127.0.0.1 user=cnstra password=letmein": ("letmein",),
    "host=127.0.0.1 password='let me in' user=cnstra": ("let me in",),
    "postgresql://127.0.0.1/shop?user=cnstra&password=letmein": ("letmein",),
}


@pytest.mark.parametrize("url", URLS)
def test_a_password_in_a_message_or_a_traceback_is_covered(url: str) -> None:
    """Also when it stands there without its URL."""
    lines = formatter([url], form="text")
    record = logging.LogRecord("psycopg", logging.WARNING, "x.py", 1, "lost %s", (url,), None)
    record.exc_text = f"Traceback: {URLS[url][-1]}"

    text = lines.format(record)

    assert "lost" in text
    assert "\nTraceback: ***" in text
    assert all(password not in text for password in URLS[url])


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_that_came_as_text_and_a_stack_have_lines_of_their_own(form: Form) -> None:
    """As of a record that was sent from another process."""
    record = logging.LogRecord("app", logging.ERROR, "x.py", 1, "lost", (), None, sinfo="Stack: here")
    record.exc_text = "Traceback: there"

    text = formatter([], form=form).format(record)

    if form == "json":
        said = json.loads(text)
        assert (said["message"], said["exception"], said["stack"]) == ("lost", "Traceback: there", "Stack: here")
        assert said.keys() == {"time", "level", "logger", "message", "pid", "exception", "stack"}
    else:
        assert text.endswith(" ERROR app: lost\nTraceback: there\nStack: here")


def test_a_url_without_a_password_is_shown() -> None:
    """Nothing is covered that is no secret."""
    lines = formatter(["postgresql://127.0.0.1/shop"], form="text")
    record = logging.LogRecord("psycopg", logging.WARNING, "x.py", 1, "postgresql://127.0.0.1/shop", (), None)

    assert lines.format(record).endswith("Z WARNING psycopg: postgresql://127.0.0.1/shop")


def test_a_line_of_json_says_what_it_is_about_in_fields() -> None:
    """Whoever logs gives the work, and the text of it stands in the message as ever."""
    record = logging.LogRecord("cnstra.worker", logging.WARNING, "x.py", 1, "%s: left alone", (work(7),), None)
    record.created, record.msecs = 0.5, 500.0

    said = json.loads(formatter([], form="json").format(record))

    assert said["time"] == "1970-01-01T00:00:00.500Z"
    assert (said["level"], said["logger"], said["pid"]) == ("WARNING", "cnstra.worker", record.process)
    assert (said["run_id"], said["activation_id"], said["neuron"]) == (str(RUN), 7, "bank")
    assert (said["attempt"], said["try_number"]) == (1, 1)
    assert said["message"].endswith(": left alone")
    assert str(RUN) in said["message"]


def test_what_a_handler_logs_has_the_fields_of_its_call_and_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """``ctx.log`` names the run by itself; ``extra`` of the handler comes beside, if JSON has it."""
    log = PlacedLog(
        logging.getLogger("cnstra.handler"),
        {"where": Identity(run_id=RUN, activation_id=3, neuron="bank", attempt=2, try_number=5)},
    )
    log.warning(
        "declined by %s", "the bank", extra={"card": "visa", "amount": 12, "at": object(), "rate": float("nan")}
    )

    [record] = caplog.records
    said = json.loads(formatter([], form="json").format(record))

    assert (said["run_id"], said["activation_id"], said["attempt"], said["try_number"]) == (str(RUN), 3, 2, 5)
    assert (said["card"], said["amount"]) == ("visa", 12)
    assert not {"at", "rate"} & said.keys()
    assert said["message"] == f"run {RUN}, activation 3 (bank): declined by the bank"


def test_json_covers_passwords_wherever_they_stand() -> None:
    """Also in a traceback, and in what the application adds; a line break ends no line."""
    lines = formatter(["redis://:hunter22@127.0.0.1:6379/0"], form="json")
    try:
        raise ValueError("no hunter22\nat all")
    except ValueError as error:
        record = logging.LogRecord("app", logging.ERROR, "x.py", 1, "hunter22", (), (type(error), error, None))
    record.url = "redis://:hunter22@127.0.0.1:6379/0"

    text = lines.format(record)

    assert "hunter22" not in text
    assert "\n" not in text
    assert "no ***\nat all" in json.loads(text)["exception"]


@contextmanager
def nothing_set_up() -> Iterator[logging.Logger]:
    """The root logger without handlers, and structlog as it is before anybody has configured it; both as they were afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("psycopg.pool", "dramatiq")}
    root.handlers = []
    structlog.reset_defaults()
    try:
        yield root
    finally:
        root.handlers = handlers
        root.setLevel(level)
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)
        structlog.reset_defaults()


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_of_structlog_come_out_like_ours(form: Form, capfd: pytest.CaptureFixture[str]) -> None:
    """From the level on that was asked for, with what was bound, passwords covered, errors told as ours are."""
    with nothing_set_up():
        set_up("info", urls=["redis://:hunter22@127.0.0.1:6379/0"], form=form)
        log = structlog.get_logger("shop").bind(run_id=str(RUN), activation_id=7)

        log.debug("not this")
        with structlog.contextvars.bound_contextvars(customer="c 7"):
            log.warning("paid by %s", "hunter22", amount=12, event_id=None)
        try:
            raise ValueError("no\nDETAIL:  row " + str(4111))
        except ValueError:
            log.exception("lost")

    paid, lost = _told(form, capfd.readouterr().err)
    assert paid[:3] == ("WARNING", "shop", "paid by ***")
    assert paid[3] == {"run_id": str(RUN), "activation_id": 7, "amount": 12, "event_id": None, "customer": "c 7"}
    assert lost[:4] == ("ERROR", "shop", "lost", {"run_id": str(RUN), "activation_id": 7})
    assert "ValueError: no" in lost[4]
    assert "row 4111" not in lost[4]


def _told(form: Form, written: str) -> list[tuple[Any, ...]]:
    """Level, logger, message, fields and exception of each line that was written."""
    if form == "json":
        told = []
        for line in written.splitlines():
            said = json.loads(line)
            assert (said.pop("time")[-1], said.pop("pid")) == ("Z", os.getpid())
            exception = said.pop("exception", "")
            told.append((said.pop("level"), said.pop("logger"), said.pop("message"), said, exception))
        return told
    field = r" (\w+)=('.*?'|\w+)"
    pattern = rf"^[-0-9]+ [:.0-9]+Z ([A-Z]+) (\w+): (.*?)((?:{field.replace('(', '(?:')})*)\n((?:(?![-0-9]+ ).*\n)*)"
    return [
        (*start, {name: literal_eval(value) for name, value in re.findall(field, fields)}, exception)
        for *start, fields, exception in re.findall(pattern, written, re.MULTILINE)
    ]


def test_what_the_application_has_set_up_is_left_alone() -> None:
    """Handlers of its own, or a structlog of its own."""
    with nothing_set_up() as root:
        root.handlers = [own := logging.NullHandler()]
        set_up("info", urls=[])
        assert root.handlers == [own]
        assert not structlog.is_configured()

        root.handlers = []
        structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
        processors = structlog.get_config()["processors"]
        set_up("info", urls=[])
        assert len(root.handlers) == 1
        assert structlog.get_config()["processors"] is processors


def test_logging_that_an_application_configures_does_not_silence_ours() -> None:
    """``dictConfig`` disables what was there before, unless it is told not to; who sets it up seldom knows of us."""
    ours, theirs = logging.getLogger("cnstra.worker"), logging.getLogger("somebody.else")
    with nothing_set_up():
        logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})
        assert ours.disabled
        try:
            let_be_heard()
            assert not ours.disabled
            assert theirs.disabled
        finally:
            for logger in logging.root.manager.loggerDict.values():
                if isinstance(logger, logging.Logger):
                    logger.disabled = False


def test_what_is_added_takes_the_place_of_nothing() -> None:
    """Where it is named like one of the fields that all lines have."""
    record = line_about(time="one", level="two", event="three", exception="four")

    said = json.loads(formatter([], form="json").format(record))

    assert (said["message"], said["level"], said["time"][-1]) == ("lost", "INFO", "Z")
    assert (said["event"], said["exception"]) == ("three", "four")


def line_about(**extra: object) -> logging.LogRecord:
    """A record with these attributes beside its own."""
    return logging.getLogger("cnstra.worker").makeRecord("w", logging.INFO, "x.py", 1, "lost", (), None, extra=extra)


def test_a_line_without_work_has_the_same_fields() -> None:
    """Of one activation, of a run alone, and of several: of so many as help."""
    one, run = line_about(**naming((RUN, 7))), line_about(**naming((RUN, None)))
    several = line_about(**naming(*((RUN, number) for number in range(200))))

    said = [json.loads(formatter([], form="json").format(record)) for record in (one, run, several)]
    assert [(line.get("run_id"), line.get("activation_id")) for line in said] == [
        (str(RUN), 7),
        (str(RUN), None),
        (None, None),
    ]
    assert said[2]["activations"] == [{"run_id": str(RUN), "activation_id": number} for number in range(20)]


@pytest.mark.parametrize("name", ["cnstra.worker", "cnstra.supervisor", "cnstra.handler"])
def test_handlers_of_any_kind_find_what_a_line_is_about(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """As attributes of the record, where what others add stands, too: once, however often logs are set up."""
    name_runs()
    name_runs()

    with caplog.at_level("INFO"):
        logging.getLogger(name).info("%s: left alone", work(7))
        logging.getLogger(name).info("nothing in particular")

    about, nothing = (vars(record) for record in caplog.records)
    assert (about["run_id"], about["activation_id"], about["neuron"]) == (str(RUN), 7, "bank")
    assert (about["attempt"], about["try_number"]) == (1, 1)
    assert "run_id" not in nothing
    assert len(logging.getLogger(name).filters) == 1


def test_what_postgres_quotes_of_a_row_is_left_out_of_a_traceback() -> None:
    """It may be a payload; the rest of the error stays."""
    try:
        try:
            statement, row = (
                "LINE 1: ... where a = '4111'\n    ^",
                "DETAIL:  Failing row contains (17, card 4111).\nmore of it 4111",
            )
            raise ValueError(f"no\n{statement}\n{row}\nHINT:  look there")
        except ValueError as error:
            raise RuntimeError("again") from error
    except RuntimeError as error:
        record = line_about()
        record.exc_info = (RuntimeError, error, error.__traceback__)

    text = formatter([], form="text").format(record)

    shown = [line for line in text.splitlines() if not line.startswith(" ")]  # without the lines of code
    assert [line for line in shown if "4111" in line] == []
    assert {"ValueError: no", "HINT:  look there", "RuntimeError: again"} <= set(shown)
