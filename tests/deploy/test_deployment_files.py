"""The files of deploy/ are valid by their schemas and agree with each other; none is run."""

import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tfpqn.export.interface.batching_parameters import BatchingParameters
from tfpqn.export.interface.shard import Shard
from tfpqn.export.model.folder_readme import IMAGE_TAG

DEPLOY = Path(__file__).parents[2] / "deploy"
PATHS = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
MANIFESTS = {path: yaml.safe_load(path.read_text()) for path in PATHS}
BY_KIND, SHARDS = (
    {found["kind"]: found for path, found in MANIFESTS.items() if is_of_shards(path)}
    for is_of_shards in (
        lambda path: path.parent.name != "shards",
        lambda path: path.parent.name == "shards",
    )
)
SERVICE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["birds"]
POD = BY_KIND["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]
FLAGS = dict((argument + "=true").split("=")[:2] for argument in CONTAINER["args"])


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=[path.stem for path in PATHS])
def test_manifests_are_valid_for_the_newest_kubernetes(manifest):
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_compose_file_is_valid_by_the_compose_specification():
    schema = ["--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    command = [sys.executable, "-m", "check_jsonschema", *schema]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_both_start_the_image_of_the_version_folders_readme_in_the_same_way():
    assert SERVICE["command"] == CONTAINER["args"]
    assert SERVICE["entrypoint"] == CONTAINER["command"] == ["tensorflow_model_server"]
    assert SERVICE["image"] == CONTAINER["image"] == f"tensorflow/serving:{IMAGE_TAG}"
    limits = CONTAINER["resources"]["limits"]
    assert float(SERVICE["deploy"]["resources"]["limits"]["cpus"]) == float(limits["cpu"])
    for kind in ("intra", "inter"):
        assert FLAGS[f"--tensorflow_{kind}_op_parallelism"] == limits["cpu"]


def test_the_ports_and_the_model_are_those_of_the_documents():
    assert (FLAGS["--port"], FLAGS["--rest_api_port"]) == ("8500", "8501")
    assert (FLAGS["--model_name"], FLAGS["--model_base_path"]) == ("birds", "/models/birds")
    assert SERVICE["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    names = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert names == {"grpc": 8500, "http": 8501}
    ports = BY_KIND["Service"]["spec"]["ports"]
    assert {port["targetPort"]: port["port"] for port in ports} == names
    (rule,) = BY_KIND["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == list(names.values())
    for probe in ("startupProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"] == {"path": "/v1/models/birds", "port": "http"}


def test_the_configured_files_are_there_readable_and_the_same_in_both():
    files = {path.name: path.read_text() for path in (DEPLOY / "config").iterdir()}
    assert BY_KIND["ConfigMap"]["data"] == files
    assert {value for value in FLAGS.values() if "/config/" in value} == {
        f"/config/{name}" for name in files
    }
    parameters = BatchingParameters.read(DEPLOY / "config" / "batching.pbtxt")
    assert parameters.num_batch_threads == float(CONTAINER["resources"]["limits"]["cpu"])


def test_selectors_find_the_servers_and_nothing_else():
    labels = POD["metadata"]["labels"]
    assert BY_KIND["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["Service"]["spec"]["selector"] == labels
    assert BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert not labels.items() <= BY_KIND["Pod"]["metadata"]["labels"].items()


def test_each_server_of_the_set_holds_the_shard_of_its_number_as_the_export_names_it():
    spec = SHARDS["StatefulSet"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    folders = {mount["mountPath"]: mount.get("subPathExpr") for mount in container["volumeMounts"]}
    (variable,) = container["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"].endswith("/pod-index']")
    for number in range(spec["replicas"]):
        name = f"birds{Shard(number, spec['replicas'], '').suffix}"
        assert folders["/models/birds"].replace("$(SHARD)", str(number)) == name
    config = SHARDS["ConfigMap"]["data"]["models.config"]
    for words in ('name: "birds"', 'base_path: "/models/birds"', "num_versions: 2"):
        assert words in config
    assert "--model_config_file=/shards/models.config" in container["args"]


def test_the_servers_of_shards_are_started_as_those_of_a_whole_but_for_their_models():
    spec = SHARDS["StatefulSet"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    other = {flag for flag in CONTAINER["args"] if "--model_" not in flag}
    assert set(container["args"]) - other == {"--model_config_file=/shards/models.config"}
    for name in CONTAINER.keys() - {"args", "volumeMounts"}:
        assert container[name] == CONTAINER[name]
    labels = SHARDS["Service"]["spec"]["selector"]
    assert SHARDS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert SHARDS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert labels.items() <= spec["template"]["metadata"]["labels"].items()
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert not labels.items() <= POD["metadata"]["labels"].items()
    assert SHARDS["NetworkPolicy"]["spec"]["ingress"] == BY_KIND["NetworkPolicy"]["spec"]["ingress"]
    assert spec["serviceName"] == SHARDS["Service"]["metadata"]["name"]
    assert SHARDS["Service"]["spec"]["ports"] == BY_KIND["Service"]["spec"]["ports"]


def test_containers_have_no_rights_that_they_do_not_need():
    shards = SHARDS["StatefulSet"]["spec"]["template"]["spec"]
    for spec in (POD["spec"], BY_KIND["Pod"]["spec"], shards):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"]
        for container in spec["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
            assert rights["capabilities"] == {"drop": ["ALL"]}
    assert SERVICE["read_only"] and SERVICE["cap_drop"] == ["ALL"]
    assert all(volume["read_only"] for volume in SERVICE["volumes"])
    assert all(mount["readOnly"] for mount in CONTAINER["volumeMounts"] if "models" in str(mount))


def test_the_readme_names_every_file_and_no_other():
    text = (DEPLOY / "README.md").read_text()
    named = set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))
    files = {str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file()}
    assert named == files - {"README.md"}
