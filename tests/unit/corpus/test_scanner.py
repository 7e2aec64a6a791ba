"""The scan as a whole."""

import csv
import hashlib
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.corpus import CorpusSummary, iter_shards, read_summary, scan
from mining.corpus.listing import ListedImage
from mining.corpus.sqlite_index import open_index
from mining.errors import CorpusError, InputError, StorageError


def test_rows_of_one_image_are_merged_and_noted(photos, scanned, csv_file):
    labels = csv_file("file_name,labels,split", "a.jpg,dog,", "b.jpg,,train", "a.jpg,cat,train", "./a.jpg,cat,test")
    summary, rows = scanned(photos("a.jpg", "b.jpg"), labels)
    assert [(r["image_id"], r["file_name"], r["labels"], r["split"]) for r in rows] == [
        (1, "a.jpg", ["cat", "dog"], "train"),
        (2, "b.jpg", [], "train"),
    ]
    assert summary.classes == {"cat": 1, "dog": 1}
    assert summary.notes == [
        "1 image is listed more than once in train.csv; the labels are merged.",
        "1 image is listed in more than one split; the first split is kept.",
    ]


def test_hashes_are_those_of_the_files_and_null_for_missing_ones(photos, scanned, csv_file):
    root = photos("a.jpg")
    _, rows = scanned(root, csv_file("file_name", "a.jpg", "gone.jpg"), hashes=True)
    assert rows[0]["content_hash"] == hashlib.sha256((root / "a.jpg").read_bytes()).hexdigest()
    assert rows[1]["content_hash"] is None


def test_files_are_not_hashed_by_default(photos, scanned):
    assert scanned(photos("a.jpg"))[1][0]["content_hash"] is None


def test_the_summary_is_stored_in_the_table(photos, tmp_path):
    out = tmp_path / "corpus.parquet"
    summary = scan(photos("cat/a.jpg", "dog/b.jpg"), None, out)
    assert read_summary(out) == summary
    assert CorpusSummary.from_json(summary.to_json()) == summary


def test_two_scans_of_the_same_images_write_the_same_bytes(photos, tmp_path):
    root = photos("cat/a.jpg", "dog/b.jpg")
    for name in ("one", "two"):
        scan(root, None, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.csv", r"nothing.csv does not exist\. --labels takes a CSV"),
        ("labels.xlsx", r"labels.xlsx is not a label file of a known kind\. --labels takes a CSV"),
        ("one.xml", r"Give its folder: --labels \S+"),
        ("empty", r"empty is a folder with neither VOC XML nor CUB list files"),
    ],
)
def test_labels_of_an_unknown_kind_are_an_error_with_a_remedy(photos, scanned, tmp_path, name, message):
    (tmp_path / "labels.xlsx").write_bytes(b"x")
    (tmp_path / "one.xml").write_text("<annotation/>")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=message):
        scanned(photos("a.jpg"), tmp_path / name)


def test_a_failed_scan_leaves_nothing_behind_and_keeps_the_old_table(photos, tmp_path, csv_file):
    out = tmp_path / "out" / "corpus.parquet"
    scan(photos("a.jpg"), None, out)
    before = out.read_bytes()
    with pytest.raises(CorpusError):
        scan(photos("a.jpg"), csv_file("file_name,labels", "a.jpg,cat", "../b.jpg,cat"), out)
    assert out.read_bytes() == before
    assert os.listdir(out.parent) == ["corpus.parquet"]


def test_a_scan_leaves_only_the_table(photos, tmp_path):
    scan(photos("a.jpg"), None, tmp_path / "out" / "corpus.parquet")
    assert os.listdir(tmp_path / "out") == ["corpus.parquet"]


def test_an_output_below_a_file_is_an_error(photos, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for out in (tmp_path / "file" / "corpus.parquet", tmp_path / "file" / "deep" / "corpus.parquet"):
        with pytest.raises(InputError, match=r"Cannot write .*corpus.parquet: a folder above it is a file"):
            scan(photos("a.jpg"), None, out)


def test_an_output_that_is_not_writable_is_a_storage_error(without_rights):
    (without_rights / "a.jpg").write_bytes(b"x")
    (without_rights / "closed").mkdir(mode=0o555)
    with pytest.raises(StorageError, match=r"writing is not permitted"):
        scan(without_rights, None, without_rights / "closed" / "corpus.parquet")


def test_a_full_disk_while_sorting_is_a_storage_error_and_leaves_nothing(tmp_path):
    def fill():
        with open_index(tmp_path / "corpus.parquet") as table:
            table._connection.execute("PRAGMA max_page_count = 20")
            table.add_listed(ListedImage(f"{i:06d}.jpg", None) for i in range(10_000))

    with pytest.raises(StorageError, match=r"Cannot write .* the disk is full\. Free space"):
        fill()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_while_writing_is_a_storage_error_and_leaves_nothing(photos, tmp_path, csv_file):
    labels = csv_file("file_name,labels", *(f"{i * 7919 % 20_000}.jpg,cat" for i in range(20_000)))
    code = (
        "import resource, sys; from pathlib import Path; from mining.corpus import scan\n"
        "from mining.errors import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: scan(*map(Path, sys.argv[1:]), check_files=False)\n"
        "except StorageError as error: print(error)"
    )
    out = tmp_path / "out" / "corpus.parquet"
    command = [sys.executable, "-c", code, str(photos("a.jpg")), str(labels), str(out)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"Cannot write {out}: the file would be too large")
    assert os.listdir(out.parent) == []


def test_a_shard_size_of_zero_is_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="shard_size must be at least 1, got 0"):
        scan(photos("a.jpg"), None, tmp_path / "corpus.parquet", shard_size=0)


def test_importing_the_package_loads_neither_torch_nor_pandas():
    code = "import sys, mining.corpus; print(sorted({'torch', 'pandas', 'prefect'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


name_text = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp", "Cs"], exclude_characters="/\\|:"),
    min_size=1,
    max_size=8,
).filter(lambda name: name not in (".", ".."))
listings = st.dictionaries(name_text, st.sets(name_text, max_size=3), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(listing=listings, shard_size=st.integers(1, 6))
def test_any_listing_is_sorted_and_split_into_shards(listing, shard_size):
    with TemporaryDirectory() as folder:
        labels, out = Path(folder, "train.csv"), Path(folder, "corpus.parquet")
        with labels.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "labels"])
            writer.writerows([name, "|".join(classes)] for name, classes in listing.items())
        summary = scan(Path(folder), labels, out, shard_size=shard_size, check_files=False)
        shards = list(iter_shards(out))
    rows = pa.concat_tables(shards).to_pylist()
    wanted = {name: {unicodedata.normalize("NFC", label) for label in labels} for name, labels in listing.items()}
    assert {row["file_name"]: set(row["labels"]) for row in rows} == wanted
    assert [row["file_name"] for row in rows] == sorted(listing)
    assert [row["image_id"] for row in rows] == list(range(1, len(listing) + 1))
    assert all(shard.num_rows == shard_size for shard in shards[:-1])
    assert 1 <= shards[-1].num_rows <= shard_size
    assert sum(summary.classes.values()) == sum(len(classes) for classes in listing.values())


folder_names = st.sampled_from(["train", "test", "cat", "dog", "x"])
trees = st.sets(st.lists(folder_names, max_size=3).map(lambda parts: "/".join([*parts, "p.jpg"])), min_size=1)


@settings(deadline=None, max_examples=60)
@given(tree=trees)
def test_any_folder_tree_is_listed_completely_with_at_least_two_classes_or_none(tree):
    with TemporaryDirectory() as folder:
        root = Path(folder, "root")
        for name in tree:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x")
        summary = scan(root, None, Path(folder, "corpus.parquet"))
        rows = pa.concat_tables(iter_shards(Path(folder, "corpus.parquet"))).to_pylist()
    assert [row["file_name"] for row in rows] == sorted(tree)
    assert (summary.labelled > 0) == (len(summary.classes) >= 2) == (summary.kind == "classes")
    assert all(row["labels"] is None or row["labels"][0] in row["file_name"].split("/")[:-1] for row in rows)
