"""Addresses, secrets and numbers are checked before anything is opened."""

import pytest

from tfpqn.export.client import SearchClient
from tfpqn.export.client.errors import read_refusal

URLS = {
    "localhost:8501": "http://localhost:8501",
    "[::1]:8501": "http://[::1]:8501",
    "http://birds.example/tf/": "http://birds.example/tf",
    "https://birds.example:99": "https://birds.example:99",
}
LOCAL = ["localhost:1", "127.9.9.9:1", "[::1]:1", "dns:///localhost:1"]
FAR = ["birds.example:1", "10.0.0.1:1", "[fe80::1]:1", "localhost.example:1", "0.0.0.0:1"]
SECRETS = [{"token": "abc"}, {"metadata": [("authorization", "Basic x")]}]


def open_options(address="localhost:1", model="birds", **options):
    with SearchClient(address, model, **options) as client:
        return client._client._options


def test_addresses_of_grpc_and_of_rest():
    for address in LOCAL + FAR:
        assert open_options(address).address == address
    for address, url in URLS.items():
        assert open_options(address, rest=True).url == url
    assert open_options(rest=True, tls=True).url == "https://localhost:1"


@pytest.mark.parametrize(
    ("address", "rest"),
    [
        *((address, False) for address in ("", "localhost", "local host:1", "a@b:1", "::1:8500")),
        *((address, False) for address in ("http://a:1", "localhost:x", "unix:/run/birds")),
        *((address, rest) for address in ("a:65536", "a:99999") for rest in (False, True)),
        *((address, True) for address in ("ftp://a", "http://user@a", "http://a?b")),
    ],
)
def test_other_addresses_are_refused(address, rest):
    with pytest.raises(ValueError, match="address must be HOST:PORT.*Received"):
        open_options(address, rest=rest)


def test_a_file_of_authorities_must_be_there_in_pem_format(tmp_path):
    for rest in (False, True):
        with pytest.raises(FileNotFoundError, match="PEM file of tls must exist. Received"):
            open_options(tls=tmp_path / "none.pem", rest=rest)
        (tmp_path / "other.pem").write_text("other")
        with pytest.raises(ValueError, match="tls must be in PEM format. Received"):
            open_options(tls=str(tmp_path / "other.pem"), rest=rest)


def test_an_http_url_is_not_encrypted():
    with pytest.raises(ValueError, match="https URL with TLS"):
        open_options("http://birds.example", rest=True, tls=True)


@pytest.mark.parametrize("secret", SECRETS, ids=["token", "metadata"])
def test_no_secret_leaves_the_machine_unencrypted(secret):
    for address in LOCAL:
        assert open_options(address, **secret).headers
    for address in FAR:
        for rest in (False, True):
            with pytest.raises(ValueError, match="A token must travel encrypted"):
                open_options(address, rest=rest, **secret)
            assert open_options(address, rest=rest, tls=True, **secret).headers


def test_secrets_are_not_shown():
    options = open_options(token="abcdef", metadata=[("x-key", "ghijkl")])
    assert "abcdef" not in repr(options) and "ghijkl" not in repr(options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"token": token}, "token must be printable") for token in ("", "a b", "a\nb", "é")),
        *(
            ({"timeout": seconds}, "timeout must be.* Received: timeout=")
            for seconds in (0, -1.0, float("inf"), float("nan"))
        ),
        ({"max_attempts": 6}, "max_attempts must be in 1 .. 5. Received: max_attempts=6"),
        ({"chunk_size": 0}, "chunk_size must be in"),
        ({"max_message_bytes": 2**31}, "max_message_bytes must be in"),
        ({"model": ""}, "model must be"),
        ({"version": 1, "version_label": "stable"}, "version or version_label, not both"),
    ],
)
def test_other_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        open_options(**options)


def test_a_refusal_is_one_plain_sentence():
    error = read_refusal("INVALID_ARGUMENT", "assertion failed: [images: bad] [[{{node a}}]]", "a")
    assert error.message == "images: bad"
