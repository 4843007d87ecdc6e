"""TLS both ways to a server: trusted and untrusted."""

import http.server
import json
import shutil
import ssl
import subprocess
import threading
from pathlib import Path

import grpc
import pytest

from tests.client.fake_servers import GrpcServer
from tests.client.ways import WAYS, open_client
from tfpqn.export.client import ServingError

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl program")

STATUS = {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(STATUS).encode())

    def log_message(self, *args):
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *args):
        """Handshakes fail on purpose."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Certificates that sign themselves, for this host and for another, with `key` of both."""
    folder = tmp_path_factory.mktemp("tls")
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", folder / "key"]
    for host in ("localhost", "fish.example"):
        names = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
        command = ["openssl", "req", *options, "-out", folder / host, *names]
        subprocess.run(command, check=True, capture_output=True)
        (folder / "key").rename(folder / f"{host} key")
    return folder


@pytest.fixture(scope="module", params=["localhost", "fish.example"])
def addresses(request, certificates):
    """Where a certificate is shown, by the first word of a way; and its file."""
    file, key = certificates / request.param, certificates / f"{request.param} key"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, key)
    rest = QuietServer(("localhost", 0), Handler)
    rest.socket = context.wrap_socket(rest.socket, server_side=True)
    thread = threading.Thread(target=rest.serve_forever, args=[0.05])
    thread.start()
    pairs = [(key.read_bytes(), file.read_bytes())]
    with GrpcServer(grpc.ssl_server_credentials(pairs)) as server:
        yield {"gRPC": server.address, "REST": f"localhost:{rest.server_port}", "file": file}
    rest.shutdown()
    thread.join()
    rest.server_close()


@pytest.mark.parametrize("way", WAYS)
def test_only_a_server_that_is_trusted_by_its_name_is_asked(addresses, way):
    file: Path = addresses["file"]
    for trusted, is_asked in ((str(file), file.name == "localhost"), (True, False)):
        address = addresses[way.split()[0]]
        with open_client(way, address, max_attempts=1, timeout=20.0, tls=trusted) as client:
            if is_asked:
                assert client.model_status()[0].state == "AVAILABLE"
                continue
            with pytest.raises(ServingError) as error:
                client.model_status()
            assert error.value.code == "UNAVAILABLE"
