"""The one way in which Parquet files are written and read: atomic, verified, in batches of constant memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mining.errors import DamagedFileError, RunError
from mining.storage.embedded_digest import PLACEHOLDER, embed_digest
from mining.storage.files import atomic_write
from mining.storage.integrity import check_file, damage_message

if TYPE_CHECKING:  # importing pyarrow takes longer than checking a record, which does without it
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 20_000


@contextmanager
def parquet_writer(path: Path, schema: "pa.Schema") -> Iterator["pq.ParquetWriter"]:
    """Open a writer of a Parquet file with page checksums and an embedded digest.

    The file appears under its name complete when the block ends without an error, or not at all.

    Args:
        path: The file to write.
        schema: Its columns.

    Yields:
        The writer; row groups are as long as the tables that are written to it.

    Raises:
        StorageError: The disk is full, read-only or not writable.
        InputError: No file can exist at `path`.
    """
    import pyarrow.parquet as pq

    with atomic_write(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            yield writer
            writer.add_key_value_metadata(PLACEHOLDER)
        embed_digest(temporary)


@contextmanager
def open_verified(
    path: Path, read_footer: "Callable[[Path], pq.FileMetaData] | None" = None
) -> Iterator["pq.ParquetFile"]:
    """Open a Parquet file whose digest matches, with page checksums verified while it is read.

    For callers that have messages of their own; others use `open_parquet`.

    Args:
        path: The file to read.
        read_footer: Gives the file's footer where the caller keeps it from one call to the next.

    Raises:
        DamagedFileError: The file's digest differs.
        OSError: The file is missing or cannot be read.
        pyarrow.ArrowException: The content cannot be decoded.
    """
    import pyarrow.parquet as pq

    check_file(path)
    footer = read_footer(path) if read_footer is not None else None
    with pq.ParquetFile(path, metadata=footer, page_checksum_verification=True) as file:
        yield file


@contextmanager
def open_parquet(path: Path) -> Iterator["pq.ParquetFile"]:
    """Open a Parquet table of a run or a label store for reading, after its digest was verified.

    Raises:
        RunError: The file is missing.
        DamagedFileError: The file is damaged; also raised for damage that shows only while the block reads it.
    """
    import pyarrow as pa

    try:
        with open_verified(path) as file:
            yield file
    except FileNotFoundError:
        raise RunError(f"{path} is missing. Mine again into a new folder.") from None
    except (OSError, pa.ArrowException) as error:
        raise DamagedFileError(damage_message(path, " ".join(str(error).split()).rstrip("."))) from None


def iter_batches(
    path: Path, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator["pa.RecordBatch"]:
    """Read a Parquet table in batches, in the order of its rows; memory does not depend on its size.

    Args:
        path: The file to read; its digest is verified first.
        columns: Names of the columns to read; None reads all.
        batch_rows: Most rows per batch.

    Raises:
        RunError: The file is missing.
        DamagedFileError: The file is damaged.
    """
    with open_parquet(path) as file:
        yield from file.iter_batches(batch_size=batch_rows, columns=None if columns is None else list(columns))
