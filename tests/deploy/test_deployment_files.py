"""The files of deploy/ are valid by their schemas and agree with each other; none is run."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from tfpqn.export.model import folder_readme
from tfpqn.export.model.batching_parameters import BatchingParameters

DEPLOY = Path(__file__).parents[2] / "deploy"
MODEL = "birds"
PORTS = {"--port": 8500, "--rest_api_port": 8501}
# Flags of tensorflow_model_server that these files may use, from the list in
# https://github.com/tensorflow/serving/blob/master/tensorflow_serving/model_servers/main.cc
KNOWN_FLAGS = {
    "--port",
    "--rest_api_port",
    "--rest_api_num_threads",
    "--rest_api_timeout_in_ms",
    "--model_name",
    "--model_base_path",
    "--model_config_file",
    "--enable_batching",
    "--enable_per_model_batching_parameters",
    "--batching_parameters_file",
    "--monitoring_config_file",
    "--tensorflow_intra_op_parallelism",
    "--tensorflow_inter_op_parallelism",
    "--file_system_poll_wait_seconds",
    "--max_num_load_retries",
    "--load_retry_interval_micros",
    "--ssl_config_file",
    "--grpc_max_threads",
}


def load(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


KUBERNETES_FILES = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
MANIFESTS = [manifest for path in KUBERNETES_FILES for manifest in load(path)]
BY_KIND = {manifest["kind"]: manifest for manifest in MANIFESTS}
(COMPOSE,) = load(DEPLOY / "compose.yaml")
SERVICE = COMPOSE["services"][MODEL]
POD = BY_KIND["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]


def flags_of(arguments: list[str]) -> dict[str, str]:
    return dict((argument + "=true").split("=")[:2] for argument in arguments)


COMMANDS = {"compose": flags_of(SERVICE["command"]), "kubernetes": flags_of(CONTAINER["args"])}


def pod_specs() -> list[dict[str, Any]]:
    return [POD["spec"], BY_KIND["Pod"]["spec"]]


def parse_monitoring_config(text: str) -> Any:
    """`MonitoringConfig` of monitoring_config.proto, which tensorflow-serving-api lacks."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="monitoring.proto", syntax="proto3")
    prometheus = file.message_type.add(name="PrometheusConfig")
    optional = {"label": kinds.LABEL_OPTIONAL}
    prometheus.field.add(name="enable", number=1, type=kinds.TYPE_BOOL, **optional)
    prometheus.field.add(name="path", number=2, type=kinds.TYPE_STRING, **optional)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config",
        number=1,
        type=kinds.TYPE_MESSAGE,
        type_name=".PrometheusConfig",
        **optional,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("MonitoringConfig"))
    return text_format.Parse(text, kind())


def test_there_is_one_manifest_of_each_kind():
    assert len(BY_KIND) == len(MANIFESTS) == len(KUBERNETES_FILES)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_manifests_are_valid_for_the_newest_kubernetes(manifest):
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_schemas_would_refuse_a_field_that_does_not_exist():
    wrong = {**BY_KIND["Service"], "spec": {**BY_KIND["Service"]["spec"], "prots": []}}
    with pytest.raises(kubernetes_validate.ValidationError, match="prots"):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("is_broken", [False, True], ids=["ours", "broken"])
def test_the_compose_file_is_valid_by_the_compose_specification(is_broken, tmp_path):
    text = (DEPLOY / "compose.yaml").read_text()
    path = tmp_path / "compose.yaml"
    path.write_text(text.replace("read_only", "readonly") if is_broken else text)
    command = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    finished = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == (1 if is_broken else 0), finished.stdout + finished.stderr


@pytest.mark.parametrize("flags", COMMANDS.values(), ids=COMMANDS)
def test_flags_are_those_of_the_server(flags):
    assert set(flags) <= KNOWN_FLAGS
    assert SERVICE["entrypoint"] == CONTAINER["command"] == ["tensorflow_model_server"]


def test_both_files_start_the_server_in_the_same_way():
    assert COMMANDS["compose"] == COMMANDS["kubernetes"]
    assert SERVICE["image"] == CONTAINER["image"]
    limits = SERVICE["deploy"]["resources"]["limits"]
    own = CONTAINER["resources"]["limits"]
    assert float(limits["cpus"]) == float(own["cpu"])
    assert limits["memory"] + "i" == own["memory"].lower()


def test_the_image_is_that_of_the_version_folders_own_readme():
    assert CONTAINER["image"] == f"tensorflow/serving:{folder_readme.IMAGE_TAG}"


def test_the_ports_agree():
    for flags in COMMANDS.values():
        assert {flag: int(flags[flag]) for flag in PORTS} == PORTS
    assert SERVICE["ports"] == [f"127.0.0.1:{port}:{port}" for port in PORTS.values()]
    names = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert names == {"grpc": 8500, "http": 8501}
    ports = {port["targetPort"]: port["port"] for port in BY_KIND["Service"]["spec"]["ports"]}
    assert ports == names
    (rule,) = BY_KIND["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == list(names.values())
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(names["http"])


def test_the_model_has_one_name_and_lies_on_a_volume_that_cannot_be_written():
    for flags in COMMANDS.values():
        assert flags["--model_name"] == MODEL
        assert flags["--model_base_path"] == f"/models/{MODEL}"
    volumes = {volume["target"]: volume for volume in SERVICE["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
    for place in ("/models", "/config"):
        assert volumes[place]["read_only"] and mounts[place]["readOnly"]
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for spec in pod_specs()
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert claims == 2 * [BY_KIND["PersistentVolumeClaim"]["metadata"]["name"]]


def test_every_mount_has_its_volume():
    for spec in pod_specs():
        mounted = {m["name"] for container in spec["containers"] for m in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


def test_probes_ask_for_the_model_at_the_rest_port():
    for name in ("startupProbe", "readinessProbe"):
        assert CONTAINER[name]["httpGet"] == {"path": f"/v1/models/{MODEL}", "port": "http"}
    script = SERVICE["healthcheck"]["test"][-1]
    assert f"GET /v1/models/{MODEL} " in script and "/8501" in script


def test_the_configured_files_are_there_and_the_same_in_both():
    files = {path.name: path.read_text() for path in (DEPLOY / "config").iterdir()}
    config_map = BY_KIND["ConfigMap"]
    assert config_map["data"] == files
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == config_map["metadata"]["name"]
    named = {Path(value) for value in COMMANDS["kubernetes"].values() if "/config/" in value}
    assert named == {Path("/config", name) for name in files}


def test_the_text_protos_are_understood():
    parameters = BatchingParameters.read(DEPLOY / "config" / "batching.pbtxt")
    assert parameters.num_batch_threads == float(CONTAINER["resources"]["limits"]["cpu"])
    config = parse_monitoring_config((DEPLOY / "config" / "monitoring.pbtxt").read_text())
    assert config.prometheus_config.enable
    path = POD["metadata"]["annotations"]["prometheus.io/path"]
    assert config.prometheus_config.path == path


def test_threads_are_as_many_as_the_processors_that_the_limit_allows():
    for flags in COMMANDS.values():
        assert flags["--tensorflow_intra_op_parallelism"] == CONTAINER["resources"]["limits"]["cpu"]
        assert flags["--tensorflow_inter_op_parallelism"] == CONTAINER["resources"]["limits"]["cpu"]


def test_selectors_find_the_servers_and_nothing_else():
    labels = POD["metadata"]["labels"]
    selectors = [
        BY_KIND["Deployment"]["spec"]["selector"]["matchLabels"],
        BY_KIND["Service"]["spec"]["selector"],
        BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector == labels for selector in selectors)
    uploader = BY_KIND["Pod"]["metadata"]["labels"]
    assert not labels.items() <= uploader.items()


def test_the_autoscaler_scales_the_deployment_alone():
    target = BY_KIND["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = BY_KIND["Deployment"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"], "each `apply` would undo the autoscaler's work"


def test_containers_have_no_rights_that_they_do_not_need():
    for spec in pod_specs():
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"]
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "privileged": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} <= container["resources"].keys()
    assert SERVICE["read_only"] and SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert not SERVICE["user"].startswith("0")


def test_the_readme_names_every_file_and_no_other():
    text = (DEPLOY / "README.md").read_text()
    named = set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))
    files = {str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file()}
    assert named == files - {"README.md"}
