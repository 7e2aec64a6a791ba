"""Content hashes of image files."""

from mining.corpus.content_hashes import HashCache


def test_a_file_too_large_to_be_mined_is_not_hashed(tmp_path):
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(10**13)
    assert HashCache(str(tmp_path)).compute(["sparse.jpg"]) == [None]
