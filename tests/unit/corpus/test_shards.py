"""The corpus table on disk: shards, and updates of the images' states."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.corpus import (
    CORPUS_SCHEMA,
    CorpusUpdate,
    iter_shards,
    read_shard,
    read_summary,
    scan,
    shard_count,
    update_corpus,
)
from mining.errors import CorpusError, InputError


@pytest.fixture
def corpus(photos, tmp_path):
    out = tmp_path / "corpus.parquet"
    scan(photos(*(f"{i}.jpg" for i in range(7))), None, out, shard_size=3)
    return out


def rows(path):
    return pa.concat_tables(iter_shards(path)).to_pylist()


def test_a_shard_is_a_row_group_of_the_requested_size(corpus):
    assert shard_count(corpus) == 3
    assert [read_shard(corpus, i)["image_id"].to_pylist() for i in range(3)] == [[1, 2, 3], [4, 5, 6], [7]]
    assert [shard.num_rows for shard in iter_shards(corpus)] == [3, 3, 1]


def test_the_schema_has_the_meaning_of_every_column(corpus):
    assert read_shard(corpus, 0).schema.equals(CORPUS_SCHEMA, check_metadata=True)
    assert pq.read_schema(corpus).field("labels").metadata[b"meaning"].startswith(b"names of the classes")


def test_the_table_is_compressed_with_zstd(corpus):
    assert pq.ParquetFile(corpus).metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("index", [-1, 3])
def test_a_missing_shard_is_an_index_error(corpus, index):
    with pytest.raises(IndexError, match=f"has 3 shards, asked for shard {index}"):
        read_shard(corpus, index)


def test_an_update_changes_only_states_and_sizes(corpus, tmp_path):
    before = rows(corpus)
    out = tmp_path / "done.parquet"
    update_corpus(
        corpus, out, iter([{2: CorpusUpdate("labelled", 8, 6)}, {}, {7: CorpusUpdate("quarantined", None, None)}])
    )
    expected = [dict(row) for row in before]
    expected[1].update(state="labelled", width=8, height=6)
    expected[6].update(state="quarantined")
    assert rows(out) == expected
    assert rows(corpus) == before
    assert [shard.num_rows for shard in iter_shards(out)] == [3, 3, 1]
    assert read_summary(out) == read_summary(corpus)
    assert read_shard(out, 0).schema.equals(CORPUS_SCHEMA, check_metadata=True)


def test_an_update_may_replace_its_own_table_and_keeps_known_sizes(corpus):
    update_corpus(corpus, corpus, [{1: CorpusUpdate("labelled", 8, 6)}, {}, {}])
    update_corpus(corpus, corpus, [{1: CorpusUpdate("no_region", None, None)}, {}, {}])
    first = rows(corpus)[0]
    assert (first["state"], first["width"], first["height"]) == ("no_region", 8, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{}, {}], r"has 3 shards; expected one mapping for each"),
        ([{}, {}, {}, {}], r"has 3 shards; expected one mapping for each"),
        ([{4: CorpusUpdate("labelled", 1, 1)}, {}, {}], r"image_id 4 is not in shard 0"),
        ([{1: CorpusUpdate("finished", 1, 1)}, {}, {}], r"unknown state 'finished'; the states are pending, labelled"),
    ],
)
def test_an_invalid_update_is_refused_and_leaves_the_table_unchanged(corpus, changes, message):
    before = corpus.read_bytes()
    with pytest.raises(ValueError, match=message):
        update_corpus(corpus, corpus, changes)
    assert corpus.read_bytes() == before
    assert [p.name for p in corpus.parent.glob(".tmp-*")] == []


def test_a_missing_table_is_an_error(tmp_path):
    with pytest.raises(CorpusError, match=r"nothing.parquet does not exist\. Scan"):
        read_shard(tmp_path / "nothing.parquet", 0)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_table_is_an_error(corpus, share):
    whole = corpus.read_bytes()
    corpus.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"cannot be read as a corpus table|is damaged"):
        shard_count(corpus)


def test_another_parquet_file_is_an_error(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(CorpusError, match=r"is not a corpus table: its columns are x"):
        list(iter_shards(tmp_path / "other.parquet"))
