"""Who may call: tokens, TLS, and where the server listens."""

import logging
import shutil
import socket
import ssl
import subprocess

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.serving.calls import TIMEOUT, Caller, call_rest, embeddings_of, make_request
from tests.serving.conftest import serve
from tfpqn.export.server import ModelServer, TlsFiles, running_server
from tfpqn.export.server.security import TokenCheck, is_loopback

BY_EMBEDDING = "search_by_embedding"
INPUTS = {"embeddings": embeddings_of(1)}
TOKEN = "not-a-secret-0123456789"
BODY = {"signature_name": BY_EMBEDDING, "inputs": INPUTS["embeddings"].tolist()}


def run_openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a server's and a client's pair, for localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    names = folder / "names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    key, authority = folder / "ca.key", folder / "ca.pem"
    new_key = ("-newkey", "rsa:2048", "-nodes")
    run_openssl(
        *("req", "-x509", *new_key, "-days", 2, "-subj", "/CN=test"),
        *("-keyout", key, "-out", authority),
    )
    for name in ("server", "client"):
        request = folder / f"{name}.csr"
        run_openssl(
            *("req", *new_key, "-subj", f"/CN={name}"),
            *("-keyout", folder / f"{name}.key", "-out", request),
        )
        run_openssl(
            *("x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-days", 2),
            *("-CAcreateserial", "-extfile", names, "-out", folder / f"{name}.pem"),
        )
    return folder


def test_without_the_token_every_call_but_health_is_refused(models):
    for served in serve(models["int64"], token=TOKEN):
        caller, port = served.caller, served.server.rest_port
        request = make_request(served.name, BY_EMBEDDING, INPUTS)
        for metadata in (None, [("authorization", "Bearer x")], [("authorization", TOKEN)]):
            with pytest.raises(grpc.RpcError) as caught:
                caller.prediction.Predict(request, TIMEOUT, metadata)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:
            caller.status(served.name)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        stub = health_pb2_grpc.HealthStub(caller.channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), TIMEOUT).status == 1
        metadata = [("authorization", f"Bearer {TOKEN}")]
        caller.predict(served.name, BY_EMBEDDING, INPUTS, metadata=metadata)

        paths = (f"/v1/models/{served.name}", "/monitoring/prometheus/metrics", "/elsewhere")
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "é"}):
            for path in paths:
                assert call_rest(port, path, headers=headers).status == 401
            answer = call_rest(port, f"/v1/models/{served.name}:predict", BODY, headers)
            assert answer.status == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = call_rest(port, f"/v1/models/{served.name}:predict", BODY, headers)
        assert answer.status == 200


def test_tls_serves_those_who_trust_the_authority(models, certificates):
    authority = certificates / "ca.pem"
    tls = TlsFiles(certificates / "server.pem", certificates / "server.key")
    context = ssl.create_default_context(cafile=str(authority))
    credentials = grpc.ssl_channel_credentials(authority.read_bytes())
    for served in serve(models["int64"], tls=tls):
        with Caller(served.server.port, credentials) as caller:
            caller.predict(served.name, BY_EMBEDDING, INPUTS)
        path = f"/v1/models/{served.name}:predict"
        assert call_rest(served.server.rest_port, path, BODY, context=context).status == 200
        with pytest.raises(ssl.SSLError):
            stranger = ssl.create_default_context()
            call_rest(served.server.rest_port, path, BODY, context=stranger)
        with pytest.raises(grpc.RpcError):
            served.caller.predict(served.name, BY_EMBEDDING, INPUTS)


def test_with_a_client_authority_clients_must_show_a_certificate(models, certificates):
    authority = certificates / "ca.pem"
    pair = (certificates / "client.pem", certificates / "client.key")
    tls = TlsFiles(certificates / "server.pem", certificates / "server.key", authority)
    with running_server(models["int64"].folder, port=0, rest_api_port=0, tls=tls) as server:
        name = server.model_name
        certificate, key = (path.read_bytes() for path in pair)
        known = grpc.ssl_channel_credentials(authority.read_bytes(), key, certificate)
        with Caller(server.port, known) as caller:
            caller.predict(name, BY_EMBEDDING, INPUTS)
        unknown = grpc.ssl_channel_credentials(authority.read_bytes())
        with Caller(server.port, unknown) as caller, pytest.raises(grpc.RpcError):
            caller.predict(name, BY_EMBEDDING, INPUTS)
        context = ssl.create_default_context(cafile=str(authority))
        with pytest.raises(OSError):
            call_rest(server.rest_port, f"/v1/models/{name}", context=context)
        context.load_cert_chain(*pair)
        assert call_rest(server.rest_port, f"/v1/models/{name}", context=context).status == 200


def test_files_that_are_no_pair_are_named(models, certificates):
    folder = models["int64"].folder
    strange = TlsFiles(certificates / "server.pem", certificates / "client.key")
    with pytest.raises(ValueError, match="must be a certificate and its key"):
        with running_server(folder, port=0, rest_api_port=0, tls=strange):
            pass
    missing = TlsFiles(certificates / "no.pem", certificates / "server.key")
    with pytest.raises(FileNotFoundError, match="no.pem"):
        with running_server(folder, port=0, rest_api_port=0, tls=missing):
            pass


def test_the_server_listens_on_loopback_alone_unless_told_otherwise(models, caplog):
    server = ModelServer(models["int64"].folder)
    assert is_loopback(server._host)
    with caplog.at_level(logging.WARNING, "tfpqn"):
        with running_server(models["int64"].folder, host="0.0.0.0", port=0, rest_api_port=None):
            pass
    assert "without TLS and a token" in caplog.text


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")],
)
def test_loopback_is_known_by_its_address(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize("token", ("", "  ", "line\nbreak", "é"))
def test_tokens_that_no_header_can_carry_are_refused(token):
    with pytest.raises(ValueError, match="token must be printable ASCII"):
        TokenCheck(token)


@pytest.mark.parametrize("option", ("port", "rest_api_port"))
def test_a_port_in_use_is_an_os_error_that_names_it(models, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = {"port": 0, "rest_api_port": 0, option: port}
        with pytest.raises(OSError, match=f"and free. Received: 127.0.0.1:{port}"):
            with running_server(models["int64"].folder, **options):
                pass


def test_a_base_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="base path must be a folder"):
        with running_server(tmp_path / "birds", port=0, rest_api_port=0):
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"port": -1},
        {"rest_api_port": 2**16},
        {"max_message_bytes": 0},
        {"file_system_poll_wait_seconds": 0},
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        ModelServer(tmp_path, **options)
