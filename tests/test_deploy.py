"""What can be said of the container and cluster files without pulling an image or starting a cluster."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from cli.app import app

ROOT = Path(__file__).parents[1]
KUBERNETES = "1.33"


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name(name)
    return subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def minor(text: str) -> str:
    return ".".join(text.lstrip("v").split(".")[:2])


def assert_command_exists(command: str) -> None:
    """``cbmir COMMAND`` with options that the program has."""
    words = shlex.split(command)
    if words[0] == "sh":
        words = shlex.split(words[2].partition("||")[0])
    program = words[words.index("cbmir") + 1 :]
    found = typer.main.get_command(app).commands[program[0]]  # type: ignore[attr-defined] # a group
    known = {name for parameter in found.params for name in parameter.opts}
    assert not {word for word in program[1:] if word.startswith("--")} - known, command


def test_the_dockerfile_passes_its_linter_and_does_not_run_as_root() -> None:
    lint = tool("hadolint", "Dockerfile")
    assert lint.returncode == 0, lint.stdout
    users = re.findall(r"^USER (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert users[-1] not in {"root", "0"}


def test_compose_follows_its_schema() -> None:
    check = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert check.returncode == 0, check.stdout


def test_compose_listens_on_the_loopback_interface_only_and_knows_its_own_health() -> None:
    compose = load("docker-compose.yml")
    for name, service in compose["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        assert service["cap_drop"] == ["ALL"]
        assert not service.get("privileged")
        assert "healthcheck" in service or service["restart"] == "no", name
        assert service.get("user", "x") not in {"root", "0"}
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        volumes = [volume.partition(":")[0] for volume in service["volumes"]]
        assert all(v.startswith("${") or v in compose["volumes"] for v in volumes), name
    qdrant = {s["image"] for s in compose["services"].values() if s["image"].startswith("qdrant/")}
    assert len(qdrant) == 1
    assert minor(qdrant.pop().partition(":")[2]) == minor(version("qdrant-client"))


def test_every_profile_has_one_qdrant_that_ray_can_name() -> None:
    services = load("docker-compose.yml")["services"]
    for profile, nodes in (("one", 1), ("three", 3)):
        chosen = {name: s for name, s in services.items() if profile in s["profiles"]}
        assert sum(s["image"].startswith("qdrant/") for s in chosen.values()) == nodes
        named = [n for n, s in chosen.items() if n == "qdrant" or "qdrant" in str(s.get("networks", ""))]
        assert len(named) == 1
        assert {"ray-head", "ray-worker"} <= set(chosen)


def test_secrets_come_from_the_environment_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    offered = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == offered
    for secret in ("QDRANT_API_KEY", "RAY_AUTH_TOKEN", "SERVE_TOKEN"):
        assert re.search(rf"^{secret}=$", (ROOT / ".env.example").read_text(), re.MULTILINE), "no default secret"
        assert f"${{{secret}:?" in text, "no start without it"
    assert ".env" in (ROOT / ".gitignore").read_text().split()


def test_commands_of_the_examples_exist() -> None:
    assert_command_exists(shlex.join(load("docker-compose.yml")["services"]["index"]["command"]))
    assert_command_exists(shlex.join(load("docker-compose.yml")["services"]["serve"]["command"]))
    assert_command_exists(load("deploy/rayjob.yaml")["spec"]["entrypoint"])
    deployment, _ = yaml.safe_load_all((ROOT / "deploy/serve.yaml").read_text())
    assert_command_exists(shlex.join(deployment["spec"]["template"]["spec"]["containers"][0]["command"]))


def test_the_server_follows_kubernetes_schema() -> None:
    for part in yaml.safe_load_all((ROOT / "deploy/serve.yaml").read_text()):
        kubernetes_validate.validate(part, KUBERNETES, strict=True)


@pytest.mark.parametrize("group", ["head", "decode", "embed"])
def test_the_pods_of_the_rayjob_follow_kubernetes_schema(group: str) -> None:
    job = load("deploy/rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = {"head": cluster["headGroupSpec"]} | {one["groupName"]: one for one in cluster["workerGroupSpecs"]}
    assert minor(cluster["rayVersion"]) == minor(version("ray"))
    template = groups[group]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": group}, **template}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert template["spec"]["securityContext"]["runAsNonRoot"]
    mounted = {mount["name"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in template["spec"]["volumes"]}


def test_the_helm_values_name_the_same_server() -> None:
    values = load("deploy/qdrant-values.yaml")
    assert minor(values["image"]["tag"]) == minor(version("qdrant-client"))
    assert values["apiKey"] is True
