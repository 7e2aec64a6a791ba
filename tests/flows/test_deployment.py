"""deployments/README.md is true: its commands, one after the other, in a copy of the project that nobody has used yet.

The server and the worker that they start serve the other tests of this file as well.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from deltalake import DeltaTable

from mining.synthetic import generate

ROOT = Path(__file__).parents[2]
README = ROOT / "deployments" / "README.md"
MAINTENANCE = ROOT / "deployments" / "MAINTENANCE.md"
BLOCK = re.compile(r"(<!--[^>]*-->\n)?```bash\n(.*?)```", re.DOTALL)
pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(2700)]


def commands(page: Path = README) -> list[str]:
    """The blocks that can be run here; the README's last one stops what the others started."""
    blocks = [(note or "", text) for note, text in BLOCK.findall(page.read_text())]
    return [text for note, text in blocks if "not run" not in note]


def test_what_is_not_run_says_why() -> None:
    notes = [note for page in (README, MAINTENANCE) for note, _ in BLOCK.findall(page.read_text()) if note]
    assert len(commands()) >= 12
    assert len(commands(MAINTENANCE)) >= 7
    assert all(re.match(r"<!-- (not run by the tests[^:]*: |the last block: )\w", note) for note in notes)


class Webhook(HTTPServer):
    """Somebody who wants to be told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        told = self.told

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answer)


@dataclass
class Machine:
    """A machine that was set up as the README says."""

    home: Path
    environment: dict[str, str]
    webhook: Webhook
    shown: str
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
        """As for a second GPU."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "boxes", "--limit", "1"]
        environment = {**self.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        with (self.home / "second-worker.log").open("w") as log:
            worker = subprocess.Popen(command, env=environment, cwd=self.home, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 60
            while "started" not in (self.home / "second-worker.log").read_text():
                assert time.monotonic() < deadline, self.logs()
                time.sleep(0.2)
            yield
        finally:
            worker.terminate()
            worker.wait(60)

    def logs(self) -> str:
        return "".join(path.read_text()[-5000:] for path in sorted(self.home.glob("*.log")))

    def ask(self, path: str, question: dict[str, Any] | None = None) -> Any:
        """The server's answer."""
        url = f"{self.environment['PREFECT_API_URL']}/{path}"
        deadline = time.monotonic() + 60
        while True:
            answer = httpx.get(url, timeout=60) if question is None else httpx.post(url, json=question, timeout=60)
            if answer.status_code != 503 or time.monotonic() > deadline:  # SQLite is busy: Prefect's client waits, too
                return answer.raise_for_status().json()
            time.sleep(1)

    def states(self, deployment: str) -> list[str]:
        """Of a deployment's runs, those aside that the schedule has in mind."""
        runs = self.ask("flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}})
        return sorted(run["state_name"] for run in runs if not run["auto_scheduled"])

    def ended(self, deployment: str) -> list[str]:
        """The same, once all have ended."""
        deadline = time.monotonic() + 300
        while set(found := self.states(deployment)) - {"Completed", "Cancelled", "Failed", "Crashed", "Staged"}:
            assert time.monotonic() < deadline, f"{found}\n{self.logs()}"
            time.sleep(1)
        return found

    def labels(self) -> DeltaTable:
        return DeltaTable(self.home / "labels")

    def labelled(self) -> list[str]:
        """The file name of each image in the store."""
        rows = self.labels().to_pyarrow_table(columns=["image_id", "file_name"]).to_pylist()
        return sorted(name for _, name in {(row["image_id"], row["file_name"]) for row in rows})

    def add_photos(self, count: int) -> list[str]:
        """So many there are now; gives their names."""
        generate(self.home / "photos", images=count)
        return sorted(path.name for path in (self.home / "photos" / "images").iterdir())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def left_after_a_while(started: list[int]) -> list[int]:
    """Those of the processes that do not end."""
    deadline = time.monotonic() + 30
    while (alive := [pid for pid in started if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return alive


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The README's commands, run; places and ports are the only things that differ."""
    home = tmp_path_factory.mktemp("srv")
    for name in ("flows", "tasks", "mining", "deployments"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    port = str(free_port())

    def here(text: str) -> str:
        return text.replace("/srv/boxmine", str(home)).replace("4200", port)

    file = home / "deployments" / "boxmine.env"
    file.write_text(here(file.read_text()))
    told = dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))
    webhook = Webhook()
    threading.Thread(target=webhook.serve_forever, daemon=True).start()
    programs = home / "bin"
    programs.mkdir()
    # `python` and `boxmine` are those of these tests, wherever their environment is
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
        "ALERT_WEBHOOK": f"http://127.0.0.1:{webhook.server_port}/",
        "PREFECT_CLI_COLORS": "false",
        "COLUMNS": "200",
    }

    def script(*blocks: str, seconds: int = 1800) -> subprocess.CompletedProcess[str]:
        # -m, as where a person types: else what is started with & ignores Ctrl-C, by which a worker stops itself
        text = "\n".join(["set -muxo pipefail", *map(here, blocks)])
        with (home / "readme.out").open("w") as out:  # no pipe: server and worker would hold it open
            done = subprocess.run(
                ["bash", "-c", text], env=environment, cwd=home, stdout=out, stderr=subprocess.STDOUT, timeout=seconds
            )
        return subprocess.CompletedProcess(done.args, done.returncode, (home / "readme.out").read_text())

    *rest, stop = commands()
    try:
        done = script("set -e", *rest)
        logs = "".join(path.read_text()[-5000:] for path in sorted(home.glob("*.log")))
        assert done.returncode == 0, done.stdout + logs
        yield Machine(home, {**environment, **told}, webhook, done.stdout, script)
    finally:
        webhook.shutdown()
        started = [int(path.read_text()) for path in home.glob("*.pid")]
        try:
            stopped = script(stop, seconds=180)
        finally:
            alive = left_after_a_while(started)
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
    assert not alive, "the README's last block stops both"
    assert stopped.returncode == 0, stopped.stdout


def test_the_first_night_ends_with_a_version_of_all_photos(machine: Machine) -> None:
    assert len(machine.labelled()) == 30
    assert machine.labels().version() == 0


def test_an_event_starts_a_night_too(machine: Machine) -> None:
    asked_for = machine.shown.count("prefect deployment run boxmine-label/nightly-label")
    assert machine.ended("nightly-label") == ["Completed"] * (asked_for + 1)


def test_the_week_ends_with_a_verdict_and_replaces_nothing(machine: Machine) -> None:
    assert machine.ended("weekly-retrain") == ["Completed"]
    (new,) = (machine.home / "runs" / "retrained").iterdir()
    assert json.loads((new / "run.json").read_text())["state"] == "finished"
    assert (new / "report" / "against-first.html").exists()
    (told,) = machine.ask("artifacts/filter", {"artifacts": {"key": {"any_": ["retrained"]}}})
    assert "a person decides" in told["data"]
    assert str(machine.home / "models" / "first") in {str(path) for path in (machine.home / "models").iterdir()}


def test_deployments_have_their_schedules_limits_and_forms(machine: Machine) -> None:
    nightly = machine.ask("deployments/name/boxmine-label/nightly-label")
    assert nightly["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
    assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert nightly["parameters"]["attempts"]["hours"] == 20
    form = nightly["parameter_openapi_schema"]["definitions"]
    assert form["MineSection"]["properties"]["threshold"]["description"]
    assert form["Recipe"]["properties"]["recipe"]["description"]


def test_a_staged_version_tells_a_person_who_may_publish_it(machine: Machine) -> None:
    photos = machine.add_photos(34)
    changes = {"truth": str(machine.home / "photos" / "truth.json"), "gates.min_corloc": 1.0}
    settings = {"recipe": "deployments/recipes/label.yaml", "changes": changes}
    machine.prefect(
        "deployment", "run", "boxmine-label/nightly-label", "--watch",
        "--param", f"settings={json.dumps(settings)}", may_fail=True,
    )  # fmt: skip
    assert machine.labels().version() == 0
    (staged,) = machine.ask("flow_runs/filter", {"flow_runs": {"state": {"name": {"any_": ["Staged"]}}}})
    assert (staged["name"], staged["state_type"]) == ("label images: 4 new (staged)", "FAILED")
    deadline = time.monotonic() + 60
    while not machine.webhook.told and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(2)  # nothing else is told of it
    (told,) = machine.webhook.told
    assert "because of min_corloc" in told["text"]
    assert "stays at version 0" in told["text"]
    machine.boxmine("label", "deployments/recipes/label.yaml", "--accept")
    assert (machine.labels().version(), machine.labelled()) == (1, photos)


def test_a_schedule_that_fires_twice_labels_once(machine: Machine) -> None:
    photos, before = machine.add_photos(38), machine.states("nightly-label")
    nightly = machine.ask("deployments/name/boxmine-label/nightly-label")["id"]
    with machine.another_worker():
        for _ in range(2):
            machine.ask(f"deployments/{nightly}/create_flow_run", {})
        assert machine.ended("nightly-label") == sorted([*before, "Cancelled", "Completed"])
    assert (machine.labels().version(), machine.labelled()) == (2, photos)


def test_what_is_wrong_in_a_recipe_fails_at_once(machine: Machine) -> None:
    settings = {"recipe": "deployments/recipes/label.yaml", "changes": {"gates.max_nobox": 0.5}}
    machine.prefect(
        "deployment", "run", "boxmine-label/nightly-label", "--watch",
        "--param", f"settings={json.dumps(settings)}", may_fail=True,
    )  # fmt: skip
    (failed,) = machine.ask("flow_runs/filter", {"flow_runs": {"state": {"name": {"any_": ["Failed"]}}}})
    assert "did you mean 'max_no_box'?" in failed["state"]["message"]
    deadline = time.monotonic() + 60
    while len(machine.webhook.told) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert "did you mean 'max_no_box'?" in machine.webhook.told[-1]["text"]


def test_the_maintenance_page_is_true(machine: Machine) -> None:
    before = machine.labels().version()
    done = machine.script("set -e; set -a; . deployments/boxmine.env; set +a", *commands(MAINTENANCE))
    assert done.returncode == 0, done.stdout + machine.logs()
    said = " ".join(done.stdout.split())
    assert f"Version {before + 1} of" in said
    assert "'images' as in version 0" in said
    assert "Nothing changed: 'images' is the same in version" in said, "restored twice, nothing is written"
    assert machine.labels().version() == before + 1
    assert len(machine.labelled()) == 30
    assert DeltaTable(machine.home / "backup" / "labels").version() == before
    assert "PREFECT_SERVER_EVENTS_RETENTION_PERIOD='P7D'" in said
    assert "staged 0" in said, "the nights are read from the job's log"
    photos = sorted(path.name for path in (machine.home / "photos" / "images").iterdir())
    machine.boxmine("label", "deployments/recipes/label.yaml")
    assert machine.labelled() == photos, "the next night is planned from the restored version"
