"""Streaming of JSON that other programs wrote."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.corpus.formats.json_items import JSONFile, _StrictJSON
from mining.errors import CorpusError


class Pieces:
    """A file that returns its content in chunks of a given size."""

    def __init__(self, content: bytes, size: int) -> None:
        self.content, self.size = content, size

    def read(self, _size: int = -1) -> bytes:
        piece, self.content = self.content[: self.size], self.content[self.size :]
        return piece


def rewritten(text: bytes, size: int) -> bytes:
    file = _StrictJSON(Pieces(text, size))  # type: ignore[arg-type]
    pieces = []
    while piece := file.read(7):
        pieces.append(piece)
    return b"".join(pieces)


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(10**25), 10**25) | st.text("aN\\\"é 'In,:{}[]0-"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('NaI"\\'), inner, max_size=4),
    max_leaves=12,
)


def strict(value: object) -> object:
    """Convert a value to strict JSON: null for NaN and infinity, long numbers as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and len(str(abs(value))) > 18:
        return str(value)
    if isinstance(value, list):
        return [strict(one) for one in value]
    return {key: strict(one) for key, one in value.items()} if isinstance(value, dict) else value


@given(value=values, size=st.integers(1, 9), is_ascii=st.booleans())
def test_only_non_standard_tokens_are_rewritten_for_any_chunk_size(value: object, size: int, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii).encode()
    assert json.loads(rewritten(text, size)) == strict(value)


def test_a_strict_file_is_passed_through_unchanged() -> None:
    text = b'{"a": [1.5e10, -2, true, null, "NaN \\" Infinity", 999999999999999999]}'
    assert rewritten(text, 3) == text


def test_entries_before_and_after_a_non_standard_number_are_read_once(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    entries = ",".join(f'{{"n": {"NaN" if number == 5000 else number}}}' for number in range(10_000))
    path.write_text(f'{{"images": [{entries}]}}')
    numbers = [entry["n"] for entry in JSONFile(path).items("images")]
    assert numbers == [*range(5000), None, *range(5001, 10_000)]


@pytest.mark.parametrize(
    "text", ['{"a": [nothing]}', '{"a": [1,]}', '{"a": [1]} 2', '{"a": [NaNa]}', '{"a": [1', "NaN NaN"]
)
def test_what_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CorpusError, match=r"a\.json is not valid JSON"):
        list(JSONFile(tmp_path / "a.json").items("a"))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('{"a": [1], "b": {"c": 1}, "d": null, "e": NaN, "f": "x"}',
         {"a": "list", "b": "object", "d": "null", "e": "null", "f": "value"}),
        ("{}", {}),
        ("[]", None),
        ("3", None),
    ],
)  # fmt: skip
def test_the_keys_of_a_file_are_read_with_the_kinds_of_their_values(tmp_path: Path, text: str, keys: object) -> None:
    (tmp_path / "a.json").write_text(text)
    assert JSONFile(tmp_path / "a.json").keys() == keys
