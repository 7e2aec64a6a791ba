"""The one place that imports deltalake, which the extra `store` installs."""

from mining.errors import InputError

try:
    from deltalake import CommitProperties, DeltaTable, Schema

    # the public class wraps this one in pyarrow's files, which cannot write
    from deltalake._internal import DeltaFileSystemHandler
    from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
    from deltalake.transaction import AddAction, create_table_with_add_actions
except ModuleNotFoundError as error:
    raise InputError(
        f'Label stores need the package {error.name}. Install it with: pip install "boxmine[store]"'
    ) from None

__all__ = [
    "AddAction",
    "CommitFailedError",
    "CommitProperties",
    "DeltaError",
    "DeltaFileSystemHandler",
    "DeltaTable",
    "Schema",
    "TableNotFoundError",
    "create_table_with_add_actions",
]
