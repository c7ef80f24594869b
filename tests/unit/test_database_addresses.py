"""The URL of a database: what of it libpq is given, and what is ours."""

from __future__ import annotations

import pytest

from cnstra import ConfigurationError
from cnstra.stores.postgres.addresses import address_of


@pytest.mark.parametrize(
    ("given", "libpqs"),
    [
        ("postgresql://u:p@h:6432/d?pooler=transaction", "postgresql://u:p@h:6432/d"),
        (
            "postgres://h/d?sslmode=require&pooler=transaction&connect_timeout=3",
            "postgres://h/d?sslmode=require&connect_timeout=3",
        ),
        ("postgresql://h/d?pooler=transactio%6E", "postgresql://h/d"),
        ("host=h dbname=d pooler=transaction", "host=h dbname=d"),
        ("pooler='transaction' password='a pooler=b\\' c' host=h", " password='a pooler=b\\' c' host=h"),
    ],
)
def test_a_pooler_is_told_of_in_both_forms_of_a_url(given: str, libpqs: str) -> None:
    """Whatever else stands there is libpq's, as it was."""
    address = address_of(given)

    assert address.pooled
    assert address.url == libpqs
    address.parts()


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://u:p@h/d",
        "postgresql://h/d?application_name=pooler",
        "postgresql://u:pooler=transaction@h/d",
        "host=h password='pooler=transaction'",
        "host=h password='it\\'s pooler=transaction '",
        "",
    ],
)
def test_what_only_looks_like_it_is_left_alone(given: str) -> None:
    """A password may hold anything."""
    address = address_of(given)

    assert not address.pooled
    assert address.url == given


@pytest.mark.parametrize(
    "given", ["postgresql://u:secret@h/d?pooler=statement", "host=h password=secret pooler=session"]
)
def test_another_mode_is_refused(given: str) -> None:
    """By its name, without the password."""
    with pytest.raises(
        ConfigurationError, match=r"pooler=(statement|session): it can be pooler=transaction"
    ) as refused:
        address_of(given)

    assert "secret" not in str(refused.value)


def test_settings_begin_the_session_or_go_with_each_transaction() -> None:
    """Never both; options of the URL itself are its owner's, and are sent as they stand there."""
    direct = address_of("host=h options='-c a=b'")
    pooled = address_of("host=h options='-c a=b' pooler=transaction")
    settings = ("-c jit=off -c enable_seqscan=off", "-c idle_in_transaction_session_timeout=3s")

    assert direct.starting_with(*settings) == {"options": f"{' '.join(settings)} -c a=b"}
    assert direct.taken_along(*settings) is None
    assert pooled.starting_with(*settings) == {"options": "-c a=b", "prepare_threshold": None}
    assert pooled.taken_along(*settings) == {
        "names": ["jit", "enable_seqscan", "idle_in_transaction_session_timeout"],
        "values": ["off", "off", "3s"],
    }


def test_an_address_does_not_show_its_password() -> None:
    """Where it is printed."""
    assert "secret" not in repr(address_of("postgresql://u:secret@h/d"))
