"""Who may ask, and where the server listens."""

import logging
import socket

import pytest
from starlette.datastructures import Headers

from tests.serving.calls import call_rest
from tfpqn.export.client import ServingError
from tfpqn.export.server import ModelServer, running_server
from tfpqn.export.server.hosts import HostCheck, is_loopback

LOCAL = ["localhost", "LOCALHOST:80", "localhost.:80", "127.0.0.1:8501", "127.9.9.9", "[::1]:80"]
FOREIGN = [
    *("", "evil.example", "evil.example:8501", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("10.0.0.1", "[fe80::1]", "localhost:80:80", "localhost@evil.example", "[::1", "0x7f.1"),
    *("localhost/evil", "localhost?a", "localhost#a"),
]


def test_the_server_listens_on_loopback_alone_unless_told_otherwise(tmp_path, caplog):
    assert is_loopback(ModelServer(tmp_path)._host)
    with caplog.at_level(logging.WARNING, "tfpqn"):
        with running_server(tmp_path, host="0.0.0.0", port=0, rest_api_port=None):
            pass
    assert "whoever reaches it" in caplog.text


def is_accepted(check, *headers):
    raw = [(name.encode(), value.encode()) for name, value in headers]
    try:
        check.require(Headers(raw=raw))
    except ServingError as error:
        assert error.code == "PERMISSION_DENIED"
        return False
    return True


@pytest.mark.parametrize(
    ("check", "accepted", "refused"),
    [
        (HostCheck("127.0.0.1"), LOCAL, FOREIGN),
        (HostCheck("10.0.0.1"), [*LOCAL, "10.0.0.1:80"], ["10.0.0.2", "evil.example"]),
        (HostCheck("0.0.0.0"), [*LOCAL, "10.0.0.1:80", "[fe80::1]"], ["evil.example", ""]),
        (
            HostCheck("::1", ["Birds.example", "[fe80::1]"]),
            [*LOCAL, "birds.EXAMPLE:99", "[FE80:0::1]"],
            ["fish.example", "a.birds.example"],
        ),
    ],
)
def test_hosts_and_pages_are_those_of_this_machine_or_allowed(check, accepted, refused):
    local = ("host", "localhost")
    for host in accepted:
        assert is_accepted(check, ("host", host)), host
        assert is_accepted(check, local, ("origin", f"http://{host}")), host
    for host in refused:
        assert not is_accepted(check, ("host", host)), host
        assert not is_accepted(check, local, ("host", host)), host
        assert not is_accepted(check, local, ("origin", f"https://{host}")), host
    assert not is_accepted(check)
    assert not is_accepted(check, local, ("origin", "null"))


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_a_foreign_host_or_page_gets_nothing_on_any_path(plain, headers):
    port, path = plain.server.rest_port, f"/v1/models/{plain.name}"
    for asked in (path, f"{path}/metadata", "/elsewhere"):
        answer = call_rest(port, asked, headers=headers)
        assert answer.status_code == 403 and list(answer.json()) == ["error"]
    assert call_rest(port, f"{path}:predict", b"{}", headers).status_code == 403


def test_a_name_that_is_allowed_is_answered(plain):
    headers = {"Host": "birds.example:80", "Origin": "https://birds.example"}
    answer = call_rest(plain.server.rest_port, f"/v1/models/{plain.name}", headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("option", ("port", "rest_api_port"))
def test_a_port_in_use_is_an_os_error_that_names_it(tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = {"port": 0, "rest_api_port": 0, option: port}
        with pytest.raises(OSError, match=f"and free. Received: 127.0.0.1:{port}"):
            with running_server(tmp_path, **options):
                pass


@pytest.mark.parametrize(
    "option", ["port", "rest_api_port", "max_message_bytes", "file_system_poll_wait_seconds"]
)
def test_options_out_of_range_are_refused(tmp_path, option):
    with pytest.raises(ValueError, match=f"{option} must be"):
        ModelServer(tmp_path, **{option: -1})
