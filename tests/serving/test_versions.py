"""Versions come and go while requests are answered."""

import asyncio
import gc
import itertools
import shutil
import threading
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from tests.export.tiny import NUM_ITEMS, make_embeddings, make_index, make_network, make_searcher
from tests.serving.calls import TIMEOUT, call_rest, make_request
from tests.serving.fixtures import POLL_SECONDS, drop_warmup, serve
from tfpqn.export import save_searcher
from tfpqn.export.server.model_version import ModelVersion
from tfpqn.export.server.versions import KEPT_STATUSES, ModelSpec, ModelVersions

BY_EMBEDDING = "search_by_embedding"
INPUTS = {"embeddings": make_embeddings(1)}
BODY = {"signature_name": BY_EMBEDDING, "inputs": INPUTS["embeddings"].tolist()}
AVAILABLE, END = ModelVersionStatus.AVAILABLE, ModelVersionStatus.END
SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")


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


def is_swapped(served, number):
    return state(served, number) == AVAILABLE and state(served, number - 1) == END


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


def health_of(served):
    stub = health_pb2_grpc.HealthStub(served.caller.channel)
    requests = [health_pb2.HealthCheckRequest(service=service) for service in SERVICES]
    return {stub.Check(request, TIMEOUT).status for request in requests}


def is_serving(served):
    return health_of(served) == {health_pb2.HealthCheckResponse.SERVING}


def test_health_follows_whether_a_version_is_available(own_folder):
    aside = own_folder.version.rename(own_folder.folder / "aside")
    for served in serve(own_folder, file_system_poll_wait_seconds=POLL_SECONDS):
        assert health_of(served) == {health_pb2.HealthCheckResponse.NOT_SERVING}
        with pytest.raises(grpc.RpcError, match=r"Latest\(birds\)") as caught:
            version_that_answers(served)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        aside.rename(own_folder.version)
        wait_for(is_serving, served)
        assert version_that_answers(served) == 1


def cut_variables(folder):
    path = folder / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-100])


def garble_warmup(folder):
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no records" * 10)


def become_a_link(folder):
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


OTHER_CHANGES = [
    pytest.param(one, marks=pytest.mark.slow) for one in (garble_warmup, become_a_link)
]


@pytest.mark.parametrize("change", [cut_variables, *OTHER_CHANGES])
def test_a_version_that_is_not_whole_is_refused_and_the_old_one_stays(watched, change):
    folder = copy_version(watched, 2, change)
    wait_for(lambda: state(watched, 2) == END)
    status = watched.caller.status(watched.name)[2].status
    assert status.error_code != 0
    assert status.error_message
    assert version_that_answers(watched) == 1
    path = f"/v1/models/{watched.name}/versions/2"
    shown = call_rest(watched.server.rest_port, path).json()["model_version_status"][0]
    assert (shown["state"], shown["status"]["error_message"]) == ("END", status.error_message)
    # Once it is put right, it is tried again.
    folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    folder = copy_version(watched, 2)
    wait_for(is_swapped, watched, 2)
    assert version_that_answers(watched) == 2
    # Once it is taken away, the one before comes back.
    shutil.rmtree(folder)
    wait_for(lambda: state(watched, 2) == END)
    assert version_that_answers(watched) == 1


def test_a_start_on_a_corrupt_newest_version_serves_the_older_one(own_folder):
    shutil.copytree(own_folder.version, own_folder.folder / "2")
    cut_variables(own_folder.folder / "2")
    for served in serve(own_folder):
        assert served.server.available_versions == [1]
        assert version_that_answers(served) == 1
        assert (state(served, 1), state(served, 2)) == (AVAILABLE, END)


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
                assert call_rest(watched.server.rest_port, path, BODY).status_code == 200
            except (grpc.RpcError, AssertionError) as error:
                failures.append(error)
            # Loading shares the process with them, and the interpreter.
            time.sleep(0.05)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    save_searcher(other, watched.model.folder / "2")
    wait_for(is_swapped, watched, 2)
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


def test_a_folder_that_is_gone_is_told_once_and_without_a_traceback(tmp_path, caplog):
    async def watch():
        folder = tmp_path / "birds"
        folder.mkdir()
        versions = ModelVersions("birds", folder, labels={}, poll_seconds=0.001, on_load=None)
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
    assert ["cannot be read" in line for line in told] == [True, True], told
    assert not any(record.exc_info for record in caplog.records)


def test_of_versions_without_a_folder_the_newest_are_told_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(ModelVersion, "load", lambda number, folder: number)

    async def change():
        versions = ModelVersions("birds", tmp_path, labels={}, poll_seconds=60, on_load=on_load)
        for number in range(1, 25):
            (tmp_path / str(number)).mkdir()
            await versions.poll()
            if number > 2:
                (tmp_path / str(number - 2)).rmdir()
        await versions.poll()
        return [status.version for status in versions.statuses(ModelSpec("birds"))]

    async def on_load():
        pass

    # Two have folders.
    assert asyncio.run(change()) == list(range(24, 24 - 2 - KEPT_STATUSES, -1))


@pytest.mark.slow
def test_labels_keep_their_versions_loaded(own_folder):
    shutil.copytree(own_folder.version, own_folder.folder / "2")
    labels = {"stable": 1, "canary": 2, "lost": 9}
    for served in serve(own_folder, version_labels=labels):
        assert served.server.available_versions == [1, 2]
        asked = [version_that_answers(served, label=label) for label in ("", "stable", "canary")]
        assert asked == [2, 1, 2]
        assert list(served.caller.status(served.name, label="stable")) == [1]
        path = f"/v1/models/{served.name}/labels/stable"
        assert call_rest(served.server.rest_port, f"{path}:predict", BODY).status_code == 200
        assert call_rest(served.server.rest_port, path).status_code == 200
        with pytest.raises(grpc.RpcError, match=r"Specific\(birds, 9\)") as caught:
            version_that_answers(served, label="lost")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.slow
def test_memory_of_unloaded_versions_is_given_back(own_folder):
    network = make_network()
    large = make_searcher(network, make_index(network, num_items=1_000_000))
    shutil.rmtree(own_folder.version)
    drop_warmup(save_searcher(large, own_folder.folder / "1"))
    sizes = []
    for served in serve(own_folder, file_system_poll_wait_seconds=POLL_SECONDS):
        for number in range(2, 12):
            (own_folder.folder / str(number - 1)).rename(own_folder.folder / str(number))
            wait_for(is_swapped, served, number)
            gc.collect()
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    # Codes and ids of one version are 12 MB.
    assert sizes[-1] - sizes[2] < 50 * 2**20, sizes
