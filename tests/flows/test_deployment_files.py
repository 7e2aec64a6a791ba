"""Files for containers and clusters, which cannot run here, are well-formed and name existing things."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mining.config import RetrainSettings, RunSettings, Settings, parse
from mining.config.bootstrap import BootstrapSettings
from mining.config.proof import ProofSettings
from mining.config.recipes import read_recipe
from mining.label_store.settings import LabelSettings

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"
DOCKERFILE = DEPLOYMENTS / "docker" / "Dockerfile"
COMPOSE = DEPLOYMENTS / "docker" / "compose.yaml"
TEMPLATE = DEPLOYMENTS / "kubernetes" / "job-template.json"
MANIFESTS = DEPLOYMENTS / "kubernetes" / "worker.yaml"
SECRET = re.compile(
    r"(password|secret|token|key)[\w-]*['\"]?[ \t]*[:=][ \t]*['\"]?(?!\$|\{|\n)[\w./+-]{6,}", re.IGNORECASE
)


def instructions() -> list[tuple[str, str]]:
    """Read the instructions of the Dockerfile with their arguments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in whole.splitlines() if line.strip())]


def template() -> dict[str, Any]:
    return json.loads(TEMPLATE.read_text())


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ("label", LabelSettings),
        ("retrain", RetrainSettings),
        ("example", RunSettings),
        ("bootstrap", BootstrapSettings),
        ("proof", ProofSettings),
    ],
)
def test_a_deployed_recipe_is_valid(recipe: str, kind: type[Settings]) -> None:
    parse(kind, read_recipe(DEPLOYMENTS / "recipes" / f"{recipe}.yaml"))


def test_deployments_name_existing_flows_and_recipes() -> None:
    from flows import deployed

    listed = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())["deployments"]
    assert {one["name"] for one in listed} >= {"train", "mine", "bootstrap", "prove", "nightly-label", "weekly-retrain"}
    for one in listed:
        file, _, flow = one["entrypoint"].partition(":")
        assert (ROOT / file).exists()
        checked = getattr(deployed, flow).validate_parameters(one["parameters"])
        recipe = getattr(checked["settings"], "recipe", None)
        assert recipe is None or (ROOT / recipe).exists()


def test_the_image_is_built_from_existing_files() -> None:
    steps = instructions()
    copied = [source for name, rest in steps if name == "COPY" for source in rest.split()[:-1]]
    assert {"flows", "tasks", "mining", "deployments"} <= set(copied)
    assert all((ROOT / source).exists() for source in copied)
    kept = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in copied} <= set(kept), "copied files must not be ignored"


def test_the_image_is_pinned_small_and_not_run_by_root() -> None:
    steps = instructions()
    assert steps[0][0] == "FROM"
    assert ":" in steps[0][1]
    assert not steps[0][1].endswith(":latest")
    known = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "CMD"}
    assert {name for name, _ in steps} <= known
    users = [rest for name, rest in steps if name == "USER"]
    assert users
    assert users[-1] != "root"
    assert [name for name, _ in steps].index("USER") > max(at for at, step in enumerate(steps) if step[0] == "RUN")
    installs = [rest for name, rest in steps if name == "RUN" and "apt-get install" in rest]
    assert all("--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists" in rest for rest in installs)
    assert json.loads(next(rest for name, rest in steps if name == "CMD"))[:3] == ["prefect", "worker", "start"]


def test_the_services_name_existing_files_volumes_and_services() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    services = compose["services"]
    assert set(services) == {"database", "server", "worker"}
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        build = service.get("build")
        if build is not None:
            context = COMPOSE.parent / build["context"]
            assert context.resolve() == ROOT
            assert (context / build["dockerfile"]).resolve() == DOCKERFILE
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (
                source in compose["volumes"]
                if "/" not in source
                else (COMPOSE.parent / source).parent.resolve() == ROOT
            )
    for host in re.findall(r"//(?:\w+:\S+@)?(\w+):\d+", COMPOSE.read_text().replace("127.0.0.1", "localhost")):
        assert host in {*services, "localhost"}
    reserved = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert reserved[0]["capabilities"] == ["gpu"]
    assert all(port.startswith("127.0.0.1:") for port in services["server"]["ports"])


def test_the_job_template_declares_every_variable_it_uses() -> None:
    jsonschema.Draft202012Validator.check_schema(template()["variables"])
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(template()["job_configuration"])))
    assert used == set(template()["variables"]["properties"])


def render_template() -> dict[str, Any]:
    """Build a job's configuration from the template, as a worker does."""
    from prefect.utilities.templating import apply_values

    properties = template()["variables"]["properties"]
    defaults = {name: one["default"] for name, one in properties.items() if "default" in one}
    return apply_values(template()["job_configuration"], {**defaults, "name": "night", "command": "prefect"})


def test_the_variables_of_the_job_template_are_checked() -> None:
    variables = template()["variables"]
    defaults = {name: one["default"] for name, one in variables["properties"].items() if "default" in one}
    jsonschema.validate(defaults, variables)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**defaults, "gpus": "all"}, variables)


def test_the_job_template_makes_a_job_with_a_gpu() -> None:
    job = render_template()["job_manifest"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    container = pod["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"] == template()["variables"]["properties"]["image"]["default"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert "{{" not in json.dumps(job)


def test_prefects_worker_accepts_the_job_template() -> None:
    worker = pytest.importorskip("prefect_kubernetes.worker", reason="prefect-kubernetes is not installed")
    worker.KubernetesWorkerJobConfiguration.model_validate(render_template())


def test_the_manifests_refer_to_each_other() -> None:
    manifests = list(yaml.safe_load_all(MANIFESTS.read_text()))
    versions = {
        "Namespace": "v1", "PersistentVolumeClaim": "v1", "ServiceAccount": "v1", "Deployment": "apps/v1",
        "Role": "rbac.authorization.k8s.io/v1", "RoleBinding": "rbac.authorization.k8s.io/v1",
    }  # fmt: skip
    kinds = {one["kind"]: one for one in manifests}
    assert {kind: one["apiVersion"] for kind, one in kinds.items()} == versions
    assert {one["metadata"].get("namespace", "boxmine") for one in manifests} == {"boxmine"}
    deployment = kinds["Deployment"]["spec"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"]
    account = kinds["ServiceAccount"]["metadata"]["name"]
    assert deployment["template"]["spec"]["serviceAccountName"] == account
    assert kinds["RoleBinding"]["subjects"][0]["name"] == account
    assert kinds["RoleBinding"]["roleRef"]["name"] == kinds["Role"]["metadata"]["name"]
    properties = template()["variables"]["properties"]
    assert properties["volume_claim"]["default"] == kinds["PersistentVolumeClaim"]["metadata"]["name"]
    assert properties["namespace"]["default"] == kinds["Namespace"]["metadata"]["name"]
    images = {container["image"] for container in deployment["template"]["spec"]["containers"]}
    assert images == {properties["image"]["default"]}


def test_the_pattern_of_secrets_matches_one() -> None:
    assert SECRET.search("AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI")
    assert not SECRET.search("POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it}")


@pytest.mark.parametrize(
    "path", [path for path in sorted(DEPLOYMENTS.rglob("*")) if path.is_file()], ids=lambda path: path.name
)
def test_no_file_holds_a_secret(path: Path) -> None:
    assert SECRET.search(path.read_text()) is None
