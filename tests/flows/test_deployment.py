"""The commands of deployments/README.md work, one after the other, in a fresh copy of the project.

The server and the worker that they start are used by the other tests of this file, too.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from deltalake import DeltaTable

from mining.synthetic import generate
from tests.flows.webhook import Webhook, run_webhook
from tests.prefect_server import find_free_port
from tests.processes import wait_until, wait_until_gone

ROOT = Path(__file__).parents[2]
README = ROOT / "deployments" / "README.md"
MAINTENANCE = ROOT / "deployments" / "MAINTENANCE.md"
BLOCK = re.compile(r"(<!--[^>]*-->\n)?```bash\n(.*?)```", re.DOTALL)
pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(2700)]


def commands(page: Path = README) -> list[str]:
    """List the blocks that the tests run; the README's last one stops what the others started."""
    blocks = [(note or "", text) for note, text in BLOCK.findall(page.read_text())]
    return [text for note, text in blocks if "not run" not in note]


def test_a_block_that_is_not_run_states_the_reason() -> None:
    notes = [note for page in (README, MAINTENANCE) for note, _ in BLOCK.findall(page.read_text()) if note]
    assert len(commands()) >= 12
    assert len(commands(MAINTENANCE)) >= 7
    assert all(re.match(r"<!-- (not run by the tests[^:]*: |the last block: )\w", note) for note in notes)


@dataclass
class Machine:
    """A machine that was set up by the README's commands, and what they printed."""

    home: Path
    environment: dict[str, str]
    webhook: Webhook
    stdout: str
    script: Callable[..., "subprocess.CompletedProcess[str]"]

    def run(self, *command: str, may_fail: bool = False) -> None:
        done = subprocess.run(
            command, env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=400
        )  # fmt: skip
        assert may_fail or done.returncode == 0, done.stdout + done.stderr + self.logs()

    def prefect(self, *arguments: str, may_fail: bool = False) -> None:
        self.run(sys.executable, "-m", "prefect", "--no-prompt", *arguments, may_fail=may_fail)

    def boxmine(self, *arguments: str) -> None:
        self.run(sys.executable, "-c", "from flows.cli.application import main; main()", *arguments)

    @contextmanager
    def another_worker(self) -> Iterator[None]:
        """Run a second worker, as for a second GPU."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "boxes", "--limit", "1"]
        environment = {**self.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        with (self.home / "second-worker.log").open("w") as log:
            worker = subprocess.Popen(command, env=environment, cwd=self.home, stdout=log, stderr=subprocess.STDOUT)
        try:
            log_file = self.home / "second-worker.log"
            wait_until(lambda: "started" in log_file.read_text(), poll_s=0.2, message=self.logs)
            yield
        finally:
            worker.terminate()
            worker.wait(60)

    def logs(self) -> str:
        return "".join(path.read_text()[-5000:] for path in sorted(self.home.glob("*.log")))

    def query(self, path: str, question: dict[str, Any] | None = None) -> Any:
        """Query the server."""
        url = f"{self.environment['PREFECT_API_URL']}/{path}"
        deadline = time.monotonic() + 60
        while True:
            answer = httpx.get(url, timeout=60) if question is None else httpx.post(url, json=question, timeout=60)
            if (
                answer.status_code != 503 or time.monotonic() > deadline
            ):  # SQLite is busy: Prefect's client retries, too
                return answer.raise_for_status().json()
            time.sleep(1)

    def states(self, deployment: str) -> list[str]:
        """List the states of a deployment's runs, except those that are only scheduled."""
        runs = self.query("flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}})
        return sorted(run["state_name"] for run in runs if not run["auto_scheduled"])

    def final_states(self, deployment: str) -> list[str]:
        """Wait until all runs of a deployment have ended; returns their states."""
        final = {"Completed", "Cancelled", "Failed", "Crashed", "Staged"}
        wait_until(lambda: set(self.states(deployment)) <= final, timeout_s=300, poll_s=1, message=self.logs)
        return self.states(deployment)

    def labels(self) -> DeltaTable:
        return DeltaTable(self.home / "labels")

    def labelled_images(self) -> list[str]:
        """List the file names of the store's images."""
        rows = self.labels().to_pyarrow_table(columns=["image_id", "file_name"]).to_pylist()
        return sorted(name for _, name in {(row["image_id"], row["file_name"]) for row in rows})

    def add_photos(self, count: int) -> list[str]:
        """Generate images up to this number; returns the names of all."""
        generate(self.home / "photos", images=count)
        return sorted(path.name for path in (self.home / "photos" / "images").iterdir())


def wait_and_find_running(started: list[int]) -> list[int]:
    """Wait for processes to end; returns those that still run after 30 s."""
    with suppress(AssertionError):
        wait_until_gone(started)
    return [pid for pid in started if Path(f"/proc/{pid}").exists()]


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    with run_webhook() as webhook:
        yield webhook


@pytest.fixture(scope="module")
def machine(webhook: Webhook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the README's commands were run, with other paths and ports."""
    home = tmp_path_factory.mktemp("srv")
    for name in ("flows", "tasks", "mining", "deployments"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    port = str(find_free_port())

    def here(text: str) -> str:
        return text.replace("/srv/boxmine", str(home)).replace("4200", port)

    file = home / "deployments" / "boxmine.env"
    file.write_text(here(file.read_text()))
    variables = dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))
    programs = home / "bin"
    programs.mkdir()
    # `python` and `boxmine` of these tests' environment
    for program, start in {"python": "", "boxmine": " -c 'from flows.cli.application import main; main()'"}.items():
        (programs / program).write_text(f'#!/bin/sh\nexec {sys.executable}{start} "$@"\n')
        (programs / program).chmod(0o755)
    (programs / "prefect").write_text(f'#!/bin/sh\nexec {sys.executable} -m prefect "$@"\n')
    (programs / "prefect").chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environment = {
        **clean,
        "PATH": f"{programs}:{clean['PATH']}",
        "PYTHONPATH": str(home),
        "ALERT_WEBHOOK": webhook.url,
        "PREFECT_CLI_COLORS": "false",
        "COLUMNS": "200",
    }

    def script(*blocks: str, seconds: int = 1800) -> subprocess.CompletedProcess[str]:
        # -m, as in an interactive shell: otherwise processes started with & ignore Ctrl-C, which stops a worker
        text = "\n".join(["set -muxo pipefail", *map(here, blocks)])
        with (home / "readme.out").open("w") as out:  # not a pipe, which server and worker would keep open
            done = subprocess.run(
                ["bash", "-c", text], env=environment, cwd=home, stdout=out, stderr=subprocess.STDOUT, timeout=seconds
            )
        return subprocess.CompletedProcess(done.args, done.returncode, (home / "readme.out").read_text())

    *rest, stop = commands()
    try:
        done = script("set -e", *rest)
        logs = "".join(path.read_text()[-5000:] for path in sorted(home.glob("*.log")))
        assert done.returncode == 0, done.stdout + logs
        yield Machine(home, {**environment, **variables}, webhook, done.stdout, script)
    finally:
        started = [int(path.read_text()) for path in home.glob("*.pid")]
        try:
            stopped = script(stop, seconds=180)
        finally:
            alive = wait_and_find_running(started)
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
    assert not alive, "the README's last block stops both"
    assert stopped.returncode == 0, stopped.stdout


def test_the_first_job_publishes_all_images(machine: Machine) -> None:
    assert len(machine.labelled_images()) == 30
    assert machine.labels().version() == 0


def test_an_event_starts_a_job(machine: Machine) -> None:
    asked_for = machine.stdout.count("prefect deployment run boxmine-label/nightly-label")
    assert machine.final_states("nightly-label") == ["Completed"] * (asked_for + 1)


def test_the_weekly_retraining_is_compared_and_replaces_nothing(machine: Machine) -> None:
    assert machine.final_states("weekly-retrain") == ["Completed"]
    (new,) = (machine.home / "runs" / "retrained").iterdir()
    assert json.loads((new / "run.json").read_text())["state"] == "finished"
    assert (new / "report" / "against-first.html").exists()
    (artifact,) = machine.query("artifacts/filter", {"artifacts": {"key": {"any_": ["retrained"]}}})
    assert "a person decides" in artifact["data"]
    assert str(machine.home / "models" / "first") in {str(path) for path in (machine.home / "models").iterdir()}


def test_deployments_have_their_schedules_limits_and_forms(machine: Machine) -> None:
    nightly = machine.query("deployments/name/boxmine-label/nightly-label")
    assert nightly["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
    assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert nightly["parameters"]["attempts"]["hours"] == 20
    form = nightly["parameter_openapi_schema"]["definitions"]
    assert form["MineSection"]["properties"]["threshold"]["description"]
    assert form["Recipe"]["properties"]["recipe"]["description"]


def test_a_staged_version_sends_a_message_and_may_be_accepted(machine: Machine) -> None:
    photos = machine.add_photos(34)
    changes = {"truth": str(machine.home / "photos" / "truth.json"), "gates.min_corloc": 1.0}
    settings = {"recipe": "deployments/recipes/label.yaml", "changes": changes}
    machine.prefect(
        "deployment", "run", "boxmine-label/nightly-label", "--watch",
        "--param", f"settings={json.dumps(settings)}", may_fail=True,
    )  # fmt: skip
    assert machine.labels().version() == 0
    (staged,) = machine.query("flow_runs/filter", {"flow_runs": {"state": {"name": {"any_": ["Staged"]}}}})
    assert (staged["name"], staged["state_type"]) == ("label images: 4 new (staged)", "FAILED")
    (text,) = machine.webhook.wait_for("because of min_corloc")
    assert "stays at version 0" in text
    machine.boxmine("label", "deployments/recipes/label.yaml", "--accept")
    assert machine.webhook.texts == [text], "one message only"
    assert (machine.labels().version(), machine.labelled_images()) == (1, photos)


def test_a_schedule_that_fires_twice_labels_once(machine: Machine) -> None:
    photos, before = machine.add_photos(38), machine.states("nightly-label")
    nightly = machine.query("deployments/name/boxmine-label/nightly-label")["id"]
    with machine.another_worker():
        for _ in range(2):
            machine.query(f"deployments/{nightly}/create_flow_run", {})
        assert machine.final_states("nightly-label") == sorted([*before, "Cancelled", "Completed"])
    assert (machine.labels().version(), machine.labelled_images()) == (2, photos)


def test_a_mistake_in_a_recipe_fails_at_once(machine: Machine) -> None:
    settings = {"recipe": "deployments/recipes/label.yaml", "changes": {"gates.max_nobox": 0.5}}
    machine.prefect(
        "deployment", "run", "boxmine-label/nightly-label", "--watch",
        "--param", f"settings={json.dumps(settings)}", may_fail=True,
    )  # fmt: skip
    (failed,) = machine.query("flow_runs/filter", {"flow_runs": {"state": {"name": {"any_": ["Failed"]}}}})
    assert "did you mean 'max_no_box'?" in failed["state"]["message"]
    machine.webhook.wait_for("did you mean 'max_no_box'?")


def test_the_commands_of_the_maintenance_page_work(machine: Machine) -> None:
    before = machine.labels().version()
    done = machine.script("set -e; set -a; . deployments/boxmine.env; set +a", *commands(MAINTENANCE))
    assert done.returncode == 0, done.stdout + machine.logs()
    said = " ".join(done.stdout.split())
    assert f"Version {before + 1} of" in said
    assert "'images' as in version 0" in said
    assert "Nothing changed: 'images' is the same in version" in said, "a second restore writes nothing"
    assert machine.labels().version() == before + 1
    assert len(machine.labelled_images()) == 30
    assert DeltaTable(machine.home / "backup" / "labels").version() == before
    assert "PREFECT_SERVER_EVENTS_RETENTION_PERIOD='P7D'" in said
    assert "staged 0" in said, "the history is read from the job's log"
    photos = sorted(path.name for path in (machine.home / "photos" / "images").iterdir())
    machine.boxmine("label", "deployments/recipes/label.yaml")
    assert machine.labelled_images() == photos, "the next job is planned from the restored version"
