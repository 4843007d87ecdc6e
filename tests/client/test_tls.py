"""TLS both ways to a server: trusted, untrusted, and with a certificate of the client's own."""

import http.server
import json
import shutil
import ssl
import subprocess
import threading

import grpc
import pytest

from tests.client.fake_servers import GrpcServer
from tests.client.ways import WAYS, open_client
from tfpqn.export.client import ServingError, TlsOptions

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl program")

STATUS = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates that sign themselves, and their keys, as PEM files by name."""
    folder = tmp_path_factory.mktemp("tls")
    files = {}
    for name in ("server", "client"):
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
            + ["-keyout", key, "-out", certificate, "-subj", "/CN=localhost"]
            + ["-addext", "subjectAltName=DNS:birds.example"],
            check=True,
            capture_output=True,
        )
        files[name], files[f"{name} key"] = str(certificate), str(key)
    return files


def read(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.fixture(scope="module")
def grpc_server(files):
    """Asks clients for their certificate."""
    pair = (read(files["server key"]), read(files["server"]))
    credentials = grpc.ssl_server_credentials([pair], read(files["client"]), True)
    with GrpcServer(credentials) as server:
        yield server.address


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content = json.dumps(STATUS).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *args):
        """Handshakes fail on purpose."""


@pytest.fixture(scope="module")
def rest_server(files):
    """Asks clients for their certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files["client"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(files["server"], files["server key"])
    server = QuietServer(("localhost", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    yield f"localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def connect(grpc_server, rest_server):
    def open_one(way, **options):
        address = rest_server if way.startswith("REST") else grpc_server
        return open_client(way, address, max_attempts=1, timeout=20.0, **options)

    return open_one


def own_files(files, **changes):
    names = {
        "ca_file": files["server"],
        "certificate_file": files["client"],
        "key_file": files["client key"],
        "server_name": "birds.example",
    }
    return TlsOptions(**{**names, **changes})


@pytest.mark.parametrize("way", WAYS)
def test_a_trusted_server_is_asked(connect, files, way):
    with connect(way, tls=own_files(files), token="s3cret") as client:
        assert client.model_status()[0].state == "AVAILABLE"


@pytest.mark.parametrize("way", ["gRPC", "REST"])
@pytest.mark.parametrize(
    "changes",
    [
        {"ca_file": None},
        {"server_name": None},
        {"server_name": "fish.example"},
        {"certificate_file": None, "key_file": None},
    ],
    ids=["unknown authority", "another host", "another name", "no certificate of its own"],
)
def test_nothing_is_said_to_a_server_that_is_not_trusted_or_does_not_trust(
    connect, files, way, changes
):
    with connect(way, tls=own_files(files, **changes)) as client:
        with pytest.raises(ServingError) as error:
            client.model_status()
    assert error.value.code == "UNAVAILABLE"
