"""On a real server, the automations of deployments/automations send the messages that they describe."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.flows.webhook import Webhook, run_webhook
from tests.processes import wait_until

AUTOMATIONS = Path(__file__).parents[2] / "deployments" / "automations"
FILES = sorted(AUTOMATIONS.glob("*.yaml"))
BLOCK = "00000000-0000-0000-0000-000000000000"
WITHIN_S = 10  # the least that Prefect accepts, in place of hours


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_automation_is_valid_for_client_and_server(path: Path) -> None:
    from prefect.events.schemas.automations import AutomationCore
    from prefect.server.events.schemas.automations import AutomationCore as ServerAutomation

    described = yaml.safe_load(path.read_text())
    assert AutomationCore.model_validate(described).name == ServerAutomation.model_validate(described).name


def test_each_failure_of_a_nightly_job_has_its_automation() -> None:
    assert [path.stem for path in FILES] == ["failed", "lost", "missing", "staged", "worker-offline"]
    expected = {path.stem: yaml.safe_load(path.read_text())["trigger"] for path in FILES}
    assert set(expected["failed"]["expect"]) == {
        f"prefect.flow-run.{name}" for name in ("Failed", "Crashed", "TimedOut")
    }
    assert (expected["missing"]["posture"], expected["missing"]["within"]) == ("Proactive", 26 * 3600)


def test_automations_name_existing_pools_deployments_and_tags() -> None:
    deployed = yaml.safe_load((AUTOMATIONS.parent / "prefect.yaml").read_text())["deployments"]
    trigger = {path.stem: yaml.safe_load(path.read_text())["trigger"] for path in FILES}
    assert trigger["missing"]["match_related"]["prefect.resource.name"] in {one["name"] for one in deployed}
    assert {one["work_pool"]["name"] for one in deployed} == {
        trigger["worker-offline"]["match"]["prefect.resource.name"]
    }
    assert all("boxmine" in one["tags"] for one in deployed)


FLOWS = """
import os, signal, sys, time
from prefect import tags
from flows.running import as_prefect_flow
from mining.errors import InputError
from mining.label_store.summaries import GateResult, LabelSummary
from tasks.labelling import publish_summary

gates = [GateResult("max_no_box", 0.9, 0.5, False, "new images without a box, 18 of 20")]

def label(settings: dict) -> LabelSummary:
    if settings["name"] == "lost":
        time.sleep(6)  # until the first heartbeat is sent
        os.kill(os.getpid(), signal.SIGKILL)
    if settings["name"] == "broken":
        raise InputError('there is no "photos"\\nat all')
    summary = LabelSummary("staged", "labels", 0, 20, 2, {"kept": 1, "reasons": {"new": 20}, "moved": 0, "copied": 0,
                           "retired": 2}, 0, 0, [], gates, ["shop-00002-abc123"], ["a note"], settings["name"])
    publish_summary(summary)
    return summary

with tags("boxmine"):
    state = as_prefect_flow(label)({"name": sys.argv[1]}, return_state=True)
print(state.name, state.type.value, state.message)
"""


@pytest.fixture(scope="module")
def webhook(prefect_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """A webhook, and on the server all automations, which call it."""
    with run_webhook() as webhook:
        code = (
            "from prefect.blocks.webhook import Webhook;"
            f"print(Webhook(url={webhook.url!r}).save('test-webhook', overwrite=True))"
        )
        block = run_python(prefect_environment, "-c", code).strip().splitlines()[-1]
        for path in FILES:
            described = yaml.safe_load(path.read_text().replace(BLOCK, block))
            described["trigger"]["within"] = WITHIN_S if described["trigger"]["within"] else 0
            short = tmp_path_factory.mktemp("automations") / path.name
            short.write_text(yaml.safe_dump(described))
            run_python(
                prefect_environment, "-m", "prefect", "--no-prompt", "automation", "create", "--from-file", str(short)
            )
        yield webhook


def run_python(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def query_server(environment: dict[str, str], path: str, question: dict[str, Any]) -> Any:
    return httpx.post(f"{environment['PREFECT_API_URL']}/{path}", json=question, timeout=60).raise_for_status().json()


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_failure_sends_one_message(prefect_environment: dict[str, str], webhook: Webhook, tmp_path: Path) -> None:
    script = tmp_path / "flows_that_end.py"
    script.write_text(FLOWS)
    environment = {**prefect_environment, "PYTHONPATH": str(Path(__file__).parents[2])}
    lost = {**environment, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    assert subprocess.run([sys.executable, str(script), "lost"], env=lost, cwd=tmp_path, timeout=120).returncode == -9
    assert run_python(environment, str(script), "shop").startswith("Staged FAILED Staged, not published: max_no_box")
    assert run_python(environment, str(script), "broken").startswith("Failed FAILED")
    run_python(environment, "-m", "prefect", "--no-prompt", "work-pool", "create", "boxes", "--type", "process")
    (failed,) = webhook.wait_for("ended as Failed")
    assert 'there is no "photos"\nat all' in failed
    assert "the run label broken ended" in failed
    (crashed,) = webhook.wait_for("ended as Crashed")
    assert "the run label lost ended as Crashed: No sign of life" in crashed
    (staged,) = webhook.wait_for("boxmine staged labels")
    assert "because of max_no_box" in staged
    assert webhook.wait_for("no run of nightly-label has started")
    assert webhook.wait_for("the work pool boxes has no worker")
    assert not [text for text in webhook.texts if "ended as Staged" in text], "a staged version is not a failure"
    runs = query_server(prefect_environment, "flow_runs/filter", {"flow_runs": {"tags": {"all_": ["boxmine"]}}})
    assert {(run["name"], run["state_name"], run["state_type"], run["run_count"]) for run in runs} == {
        ("label shop: 20 new, 2 gone (staged)", "Staged", "FAILED", 1), ("label broken", "Failed", "FAILED", 1),
        ("label lost", "Crashed", "CRASHED", 1),
    }  # fmt: skip
    (staged_run,) = [run["id"] for run in runs if run["state_name"] == "Staged"]
    wanted = {"logs": {"flow_run_id": {"any_": [staged_run]}}}
    lines: list[str] = []

    def is_logged() -> bool:
        lines[:] = [log["message"] for log in query_server(prefect_environment, "logs/filter", wanted)]
        return any("Staged, not published" in line for line in lines)

    wait_until(is_logged, timeout_s=30, poll_s=0.5, message=lambda: lines)
    assert any(line.startswith("max_no_box 0.900 (limit 0.500): FAILED") for line in lines), lines
