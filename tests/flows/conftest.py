"""One Prefect server for all tests that need one."""

from collections.abc import Iterator

import pytest

from tests.serving import prefect_server


@pytest.fixture(scope="session")
def prefect_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process that reports to the shared server."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment
