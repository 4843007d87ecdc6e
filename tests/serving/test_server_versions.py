"""Versions come and go while requests are answered."""

import asyncio
import gc
import itertools
import shutil
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from tests.export.tiny import NUM_ITEMS, make_index, make_network, make_searcher
from tests.serving.calls import TIMEOUT, call_rest, embeddings_of, make_request
from tests.serving.conftest import POLL_SECONDS, serve
from tfpqn.export import save_searcher
from tfpqn.export.server.versions import ModelVersions

BY_EMBEDDING = "search_by_embedding"
INPUTS = {"embeddings": embeddings_of(1)}
AVAILABLE, END = ModelVersionStatus.AVAILABLE, ModelVersionStatus.END


@pytest.fixture
def watched(own_folder):
    yield from serve(own_folder, file_system_poll_wait_seconds=POLL_SECONDS)


def wait_for(condition, *arguments):
    end = time.monotonic() + TIMEOUT
    while not condition(*arguments):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


def state(served, number):
    status = served.caller.status(served.name).get(number)
    return status.state if status else None


def version_that_answers(served, **options):
    request = make_request(served.name, BY_EMBEDDING, INPUTS, **options)
    return served.caller.prediction.Predict(request, TIMEOUT).model_spec.version.value


def copy_version(served, number, change=None):
    """As an export does it: written beside its place, then renamed."""
    temporary = served.model.folder / f".{number}.partial"
    shutil.copytree(served.model.version, temporary)
    if change:
        change(temporary)
    return temporary.rename(served.model.folder / str(number))


def health_of(served, service):
    stub = health_pb2_grpc.HealthStub(served.caller.channel)
    status = stub.Check(health_pb2.HealthCheckRequest(service=service), TIMEOUT).status
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status)


@pytest.mark.slow
def test_a_new_version_takes_over_without_a_failed_request(watched):
    other = make_searcher(make_network(), make_index(make_network(), num_items=NUM_ITEMS // 2))
    numbers, failures = [], []
    is_over = threading.Event()

    def ask():
        while not is_over.is_set():
            try:
                numbers.append(version_that_answers(watched))
                path = f"/v1/models/{watched.name}:predict"
                body = {"signature_name": BY_EMBEDDING, "inputs": INPUTS["embeddings"].tolist()}
                assert call_rest(watched.server.rest_port, path, body).status == 200
            except (grpc.RpcError, AssertionError) as error:
                failures.append(error)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    save_searcher(other, watched.model.folder / "2")
    wait_for(lambda: state(watched, 2) == AVAILABLE and state(watched, 1) == END)
    is_over.set()
    for client in clients:
        client.join()
    assert not failures
    assert {1} <= set(numbers) <= {1, 2}
    # Each client may have been overtaken by one request, no more.
    assert sum(1 for before, after in itertools.pairwise(numbers) if before > after) <= 3
    assert version_that_answers(watched) == 2
    with pytest.raises(grpc.RpcError) as caught:
        version_that_answers(watched, version=1)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def cut_variables(folder):
    path = folder / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-100])


def garble_graph(folder):
    (folder / "saved_model.pb").write_bytes(b"\xff garbage")


def drop_manifest(folder):
    (folder / "manifest.json").unlink()


def garble_warmup(folder):
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no records" * 10)


def link_outside(folder):
    (folder / "elsewhere").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    "change",
    [
        cut_variables,
        garble_warmup,
        pytest.param(garble_graph, marks=pytest.mark.slow),
        pytest.param(drop_manifest, marks=pytest.mark.slow),
        pytest.param(link_outside, marks=pytest.mark.slow),
    ],
)
def test_a_version_that_is_not_whole_is_refused_and_the_old_one_stays(watched, change):
    folder = copy_version(watched, 2, change)
    wait_for(lambda: state(watched, 2) == END)
    status = watched.caller.status(watched.name)[2].status
    assert status.error_code != 0
    assert status.error_message
    assert version_that_answers(watched) == 1
    path = f"/v1/models/{watched.name}/versions/2"
    shown = call_rest(watched.server.rest_port, path).json["model_version_status"][0]
    assert (shown["state"], shown["status"]["error_message"]) == ("END", status.error_message)
    # Once it is put right, it is tried again.
    shutil.rmtree(folder)
    copy_version(watched, 2)
    wait_for(lambda: state(watched, 2) == AVAILABLE)
    assert version_that_answers(watched) == 2


def test_a_version_folder_that_leads_out_of_the_model_is_refused(watched, models):
    (watched.model.folder / "2").symlink_to(models["string"].version)
    wait_for(lambda: state(watched, 2) == END)
    message = watched.caller.status(watched.name)[2].status.error_message
    assert "leads out of it" in message
    assert version_that_answers(watched) == 1


@pytest.mark.slow
def test_taking_the_newest_version_away_brings_the_one_before_back(watched):
    folder = copy_version(watched, 2)
    wait_for(lambda: state(watched, 2) == AVAILABLE)
    shutil.rmtree(folder)
    wait_for(lambda: state(watched, 2) == END)
    assert version_that_answers(watched) == 1


@pytest.mark.slow
def test_a_folder_that_vanishes_leaves_the_loaded_version_serving(watched):
    moved = watched.model.folder.rename(watched.model.folder.with_name("moved"))
    time.sleep(5 * POLL_SECONDS)
    assert version_that_answers(watched) == 1
    moved.rename(watched.model.folder)
    copy_version(watched, 2)
    wait_for(lambda: state(watched, 2) == AVAILABLE)


def test_a_folder_that_is_gone_is_told_once_and_without_a_traceback(tmp_path, caplog):
    async def watch():
        folder = tmp_path / "birds"
        folder.mkdir()
        versions = ModelVersions(
            "birds", folder, labels={}, poll_seconds=0.001, on_change=lambda numbers: None
        )
        await versions.start()
        for _ in range(2):
            folder.rename(tmp_path / "moved")
            await asyncio.sleep(0.1)
            (tmp_path / "moved").rename(folder)
            await asyncio.sleep(0.1)
        await versions.stop()

    with caplog.at_level("INFO", "tfpqn"):
        asyncio.run(watch())
    told = [record.getMessage() for record in caplog.records]
    assert ["cannot be read" in line for line in told] == [True, False, True, False], told
    assert all("can be read again" in line for line in told[1::2])
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.slow
def test_labels_keep_their_versions_loaded(own_folder):
    shutil.copytree(own_folder.version, own_folder.folder / "2")
    labels = {"stable": 1, "canary": 2, "lost": 9}
    for served in serve(own_folder, version_labels=labels):
        assert served.server.available_versions == [1, 2]
        assert version_that_answers(served) == 2
        assert version_that_answers(served, label="stable") == 1
        assert version_that_answers(served, label="canary") == 2
        assert list(served.caller.status(served.name, label="stable")) == [1]
        body = {"signature_name": BY_EMBEDDING, "inputs": INPUTS["embeddings"].tolist()}
        path = f"/v1/models/{served.name}/labels/stable"
        assert call_rest(served.server.rest_port, f"{path}:predict", body).status == 200
        assert call_rest(served.server.rest_port, path).status == 200
        with pytest.raises(grpc.RpcError, match=r"Specific\(birds, 9\)") as caught:
            version_that_answers(served, label="lost")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_health_follows_whether_a_version_is_available(own_folder):
    aside = own_folder.version.rename(own_folder.folder / "aside")
    for served in serve(own_folder, file_system_poll_wait_seconds=POLL_SECONDS):
        services = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
        assert {health_of(served, service) for service in services} == {"NOT_SERVING"}
        with pytest.raises(grpc.RpcError, match=r"Latest\(birds\)") as caught:
            version_that_answers(served)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        aside.rename(own_folder.version)
        wait_for(is_available, served)
        wait_for(is_serving, served)
        assert {health_of(served, service) for service in services} == {"SERVING"}


def is_available(served):
    try:
        return state(served, 1) == AVAILABLE
    except grpc.RpcError:
        return False


def is_serving(served):
    return health_of(served, "") == "SERVING"


def is_swapped(served, number):
    return state(served, number) == AVAILABLE and state(served, number - 1) == END


@pytest.mark.slow
def test_a_corrupt_newest_version_at_the_start_leaves_the_one_before(own_folder):
    shutil.copytree(own_folder.version, own_folder.folder / "2")
    garble_graph(own_folder.folder / "2")
    for served in serve(own_folder):
        assert served.server.available_versions == [1]
        assert state(served, 2) == END


@pytest.mark.slow
def test_memory_of_unloaded_versions_is_given_back(own_folder):
    network = make_network()
    large = make_searcher(network, make_index(network, num_items=300_000))
    shutil.rmtree(own_folder.version)
    save_searcher(large, own_folder.folder / "1")

    def resident_bytes():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    for served in serve(own_folder, file_system_poll_wait_seconds=POLL_SECONDS):
        sizes = []
        for number in range(2, 12):
            (own_folder.folder / str(number - 1)).rename(own_folder.folder / str(number))
            wait_for(is_swapped, served, number)
            sizes.append(resident_bytes())
    # Codes and ids of one version are 3.6 MB.
    assert sizes[-1] - sizes[2] < 25 * 2**20, sizes
