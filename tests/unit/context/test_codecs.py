"""The codecs that come with CNStra: smaller, sealed, and bounded; and what is said of keys, which is never the keys."""

from __future__ import annotations

import base64
import builtins
import tracemalloc
import zlib
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cnstra.orchestrator.codecs import Codec, JsonCodec, LayeredCodec, checked, decoded, encoded
from cnstra.orchestrator.errors import ConfigurationError, ContextError, DataRefused, KeyMissing, SealError
from cnstra.orchestrator.sealing import Vault, payload
from cnstra.orchestrator.values import MAX_VALUE_BYTES
from cnstra.stores import CompressedCodec, EncryptedCodec

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
VALUE = {"name": "Ada", "list": [1, 2.5, None, True], "long": "ab" * 2000}
LAYERS: list[Codec] = [
    CompressedCodec(at_least=0),
    CompressedCodec(),
    EncryptedCodec({"k1": OLD}),
    EncryptedCodec({"k1": OLD}, inner=CompressedCodec(at_least=10)),
]


@pytest.mark.parametrize("codec", LAYERS, ids=range(len(LAYERS)))
@pytest.mark.parametrize("value", [VALUE, {}, "", 0, False, [], "ünï 漢字"])
def test_what_was_written_comes_back(codec: Codec, value: Any) -> None:
    """Equal, whatever the layers are."""
    data = codec.encode(value)
    assert type(data) is bytes
    assert codec.decode(data) == value


@pytest.mark.parametrize("codec", LAYERS, ids=range(len(LAYERS)))
def test_what_is_no_json_is_refused_with_its_path(codec: Codec) -> None:
    """By the innermost codec, in its words."""
    with pytest.raises(ContextError, match=r"\$\.a\[0\] is a builtins.set"):
        codec.encode({"a": [{1}]})


# -- compressed ----------------------------------------------------------------------------------------------------


def test_only_what_gets_smaller_is_compressed() -> None:
    """From a size on."""
    codec = CompressedCodec(at_least=100)
    assert len(codec.encode("a" * 99 * 10)) < 60
    assert len(codec.encode("a" * 50)) == 53  # a byte, and two quotes
    noise = base64.b85encode(zlib.compress(bytes(range(256)))).decode()
    assert len(codec.encode(noise)) <= len(noise.encode()) + 8


def test_a_bomb_is_not_read() -> None:
    """A few kilobytes that would come to more than a value may be: refused, without being written out."""
    codec = CompressedCodec()
    largest = codec.wrap(b"x" * MAX_VALUE_BYTES, b"")
    assert len(codec.unwrap(largest, b"")) == MAX_VALUE_BYTES
    packing, megabyte = zlib.compressobj(), b"x" * 1024 * 1024
    bomb = b"\x01" + b"".join(packing.compress(megabyte) for _ in range(128)) + packing.flush()
    assert len(bomb) < 200_000
    tracemalloc.start()
    try:
        for data in (bomb, b"\x01" + zlib.compress(b"x" * (MAX_VALUE_BYTES + 1))):
            with pytest.raises(SealError, match="more than 4,194,304 bytes"):
                codec.unwrap(data, b"")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 5 * MAX_VALUE_BYTES


def test_what_could_not_be_read_again_is_not_written() -> None:
    """A codec within may make more of a value than it is; the bytes get small, and nobody would read them."""

    class Wide(JsonCodec):
        def encode(self, value: Any, /) -> bytes:
            return super().encode(value) * 3

    vault = Vault(CompressedCodec(Wide()))
    with pytest.raises(DataRefused, match="the codec CompressedCodec refused it, with DataRefused"):
        vault.seal(f'"{"x" * 2_000_000}"', payload(UUID(int=0), "order"))


@pytest.mark.parametrize(
    "data", [b"", b"\x02abc", b"\x01abc", b"\x01" + zlib.compress(b"{}")[:-1], b"\x01" + zlib.compress(b"{}") + b"x"]
)
def test_what_is_not_compressed_is_told(data: bytes) -> None:
    """What another codec wrote, and what is cut off, or has something behind it."""
    with pytest.raises(SealError, match=r"not written by a CompressedCodec|are broken"):
        CompressedCodec().unwrap(data, b"")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: CompressedCodec(EncryptedCodec({"k": OLD})), "does not get smaller"),
        (lambda: CompressedCodec(at_least=-1), "at_least=-1"),
        (lambda: CompressedCodec(level=10), "level=10"),
        (lambda: CompressedCodec(level=True), "level=True"),
        (lambda: CompressedCodec(object()), "no method encode"),  # type: ignore[arg-type]
        (lambda: CompressedCodec(JsonCodec), "is a class"),  # type: ignore[arg-type]
    ],
)
def test_a_compression_that_cannot_be_is_refused(make: Any, complaint: str) -> None:
    """When it is made."""
    with pytest.raises(ConfigurationError, match=complaint):
        make()


# -- encrypted -----------------------------------------------------------------------------------------------------


def test_the_same_value_is_never_the_same_bytes() -> None:
    """A new nonce each time; and nothing of the value shows."""
    codec = EncryptedCodec({"k1": OLD})
    sealed = {codec.encode(VALUE) for _ in range(50)}
    assert len(sealed) == 50
    assert all(b"Ada" not in data and b"name" not in data for data in sealed)


def test_any_bit_that_was_changed_is_noticed() -> None:
    """Of the form, the key's id, the nonce, the text and the tag."""
    codec = EncryptedCodec({"k1": OLD, "j1": NEW})
    data = codec.encode("Ada")
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises(SealError):
                codec.decode(bytes(changed))
    for size in range(len(data)):
        with pytest.raises(SealError):
            codec.decode(data[:size])


def test_what_was_sealed_for_one_thing_is_not_opened_for_another() -> None:
    """What it belongs to is authenticated, and not stored."""
    codec = EncryptedCodec({"k1": OLD}, inner=CompressedCodec())
    data = encoded(codec, VALUE, "here", b"mine")
    assert b"mine" not in data
    assert decoded(codec, data, "here", b"mine") == VALUE
    with pytest.raises(SealError, match="here: it cannot be opened: it was changed, or belongs elsewhere"):
        decoded(codec, data, "here", b"yours")


def test_keys_are_changed_in_two_steps() -> None:
    """First everybody can open what the new one seals, then it seals."""
    before = EncryptedCodec({"k1": OLD})
    between = EncryptedCodec({"k1": OLD, "k2": NEW})
    after = EncryptedCodec({"k1": OLD, "k2": NEW}, current="k2")
    last = EncryptedCodec({"k2": NEW})
    assert between.decode(after.encode(VALUE)) == after.decode(between.encode(VALUE)) == VALUE
    assert before.decode(between.encode(VALUE)) == last.decode(after.encode(VALUE)) == VALUE
    with pytest.raises(KeyMissing, match="sealed with key 'k2', and at hand is 'k1'; add that key"):
        before.decode(after.encode(VALUE))
    assert after.label_of(after.encode(1)) == "k2"
    assert after.labels == ("k1", "k2")


def test_another_key_under_the_same_id_is_told() -> None:
    """It cannot be told from a change; the error says both."""
    with pytest.raises(SealError, match="or key 'k1' is not the one that sealed it"):
        EncryptedCodec({"k1": NEW}).decode(EncryptedCodec({"k1": OLD}).encode(1))


@pytest.mark.parametrize("data", [b"", b"{}", b'{"a":1}', b"\x01\x02k1", b"\x01\xff" + b"k" * 60])
def test_what_is_not_sealed_is_told(data: bytes) -> None:
    """Rather than read as it is: who may write where it is kept could say anything."""
    with pytest.raises(SealError, match="not sealed by an EncryptedCodec"):
        EncryptedCodec({"k1": OLD}).decode(data)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: EncryptedCodec({}), "at least one"),
        (lambda: EncryptedCodec(OLD), "a mapping of ids"),  # type: ignore[arg-type]
        (lambda: EncryptedCodec({"k1": OLD[:31]}), "key 'k1' is 31 bytes, and has to be 32"),
        (lambda: EncryptedCodec({"k1": "x" * 32}), "key 'k1' is a str"),  # type: ignore[dict-item]
        (lambda: EncryptedCodec({"k 1": OLD}), "1 to 64 letters"),
        (lambda: EncryptedCodec({"": OLD}), "1 to 64 letters"),
        (lambda: EncryptedCodec({"k" * 65: OLD}), "1 to 64 letters"),
        (lambda: EncryptedCodec({"k1": OLD}, current="k2"), "current='k2' is none of its keys, which are 'k1'"),
        (lambda: EncryptedCodec({"k1": OLD}, inner=EncryptedCodec({"k1": OLD})), "give one of them all keys"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(make: Any, complaint: str) -> None:
    """When it is made, naming the id, and never the key."""
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        make()
    assert "x" * 32 not in str(refused.value)


def test_without_cryptography_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is an extra; nothing else here needs it."""
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    CompressedCodec().encode(VALUE)
    with pytest.raises(ConfigurationError, match=r"pip install 'cnstra\[sealed\]'"):
        EncryptedCodec({"k1": OLD})


# -- keys in files -------------------------------------------------------------------------------------------------

SECRET = base64.b64encode(OLD).decode()
OTHER = base64.b64encode(NEW).decode()


def test_keys_stand_in_a_file_a_line_each(tmp_path: Path) -> None:
    """The first one is current, unless another is said to be."""
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n2026-11 {SECRET}   # since November\n  2026-05\t{OTHER}\n")
    codec = EncryptedCodec.from_file(path)
    assert codec.label_of(codec.encode(1)) == "2026-11"
    assert EncryptedCodec({"2026-11": OLD}).decode(codec.encode(VALUE)) == VALUE
    older = EncryptedCodec.from_file(str(path), current="2026-05", inner=CompressedCodec())
    assert EncryptedCodec({"2026-05": NEW}, inner=CompressedCodec()).decode(older.encode(VALUE)) == VALUE


def test_keys_stand_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as in a file."""
    monkeypatch.setenv("CNSTRA_KEYS", f"k1 {SECRET}\nk2 {OTHER}")
    assert EncryptedCodec.from_environment().labels == ("k1", "k2")
    monkeypatch.setenv("OURS", f"k3 {SECRET}")
    assert EncryptedCodec.from_environment("OURS").labels == ("k3",)
    monkeypatch.delenv("OURS")
    with pytest.raises(ConfigurationError, match="the variable OURS is not set"):
        EncryptedCodec.from_environment("OURS")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        (f"{SECRET}\n", "line 1: has 1 words"),
        (f"k1 {SECRET} x\n", "line 1: has 3 words"),
        (f"\n{SECRET} k1\n", "line 2: an id is .*; are id and key in this order"),
        (f"k1 {SECRET}\nk1 {OTHER}\n", "line 2: key 'k1' stands there twice"),
        (f"k1 {SECRET[:-2]}!!\n", "line 1: key 'k1' is no base64"),
        (f"k1 {SECRET[:20]}\n", "key 'k1' is 15 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_without_a_word_of_its_keys(
    tmp_path: Path, text: str, complaint: str
) -> None:
    """With its name and the line."""
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        EncryptedCodec.from_file(path)
    assert SECRET[:16] not in str(refused.value)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        EncryptedCodec.from_file(tmp_path / "nowhere")


def test_no_key_is_ever_shown() -> None:
    """Not by the codec, nor by anything of it, nor by what it raises."""
    codec = EncryptedCodec({"k1": OLD}, inner=CompressedCodec())
    shown = repr(codec) + str(codec) + repr(vars(codec))
    with pytest.raises(SealError) as raised:
        codec.decode(b"nonsense")
    shown += repr(raised.value)
    for form in (repr(OLD)[2:-1], OLD.hex(), SECRET):
        assert form not in shown
    assert repr(codec) == "EncryptedCodec(CompressedCodec(JsonCodec()), keys k1, current k1)"


# -- what may be a codec -------------------------------------------------------------------------------------------


class Loud(LayeredCodec):
    """A layer that raises what quotes the value."""

    inner = JsonCodec()

    def wrap(self, data: bytes, bound: bytes) -> bytes:
        raise ValueError(data)

    def unwrap(self, data: bytes, bound: bytes) -> bytes:
        raise ValueError(data)


def test_a_layer_that_raises_refuses_the_value_and_quotes_nothing() -> None:
    """As a codec does."""
    with pytest.raises(ContextError, match="its codec Loud refused a str, with ValueError") as refused:
        encoded(Loud(), "Ada", "here")
    assert "Ada" not in str(refused.value)
    with pytest.raises(ContextError, match="its codec Loud cannot read what is stored, 3 bytes"):
        decoded(Loud(), b"Ada", "here")


@pytest.mark.parametrize(("codec", "complaint"), [(object(), "no method encode"), (JsonCodec, "is a class")])
def test_what_is_no_codec_is_refused(codec: Any, complaint: str) -> None:
    """With what it lacks."""
    with pytest.raises(ConfigurationError, match=complaint):
        checked(codec)
