"""Addresses, secrets and numbers are checked before anything is opened."""

import pytest

from tfpqn.export.client import SearchClient, TlsOptions
from tfpqn.export.client.errors import code_of_http_status, read_refusal


def open_options(address="localhost:1", model="birds", **options):
    with SearchClient(address, model, **options) as client:
        return client._options


@pytest.mark.parametrize(
    "address",
    ["localhost:8500", "127.0.0.1:1", "[::1]:8500", "dns:///birds.example:8500", "unix:/run/birds"],
)
def test_addresses_of_grpc(address):
    assert open_options(address).address == address


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("localhost:8501", "http://localhost:8501"),
        ("[::1]:8501", "http://[::1]:8501"),
        ("http://birds.example/tf/", "http://birds.example/tf"),
        ("https://birds.example:99", "https://birds.example:99"),
    ],
)
def test_addresses_of_rest(address, url):
    assert open_options(address, rest=True).url == url


def test_tls_makes_an_address_of_rest_https():
    assert open_options(rest=True, tls=True).url == "https://localhost:1"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost",
        "localhost:",
        "local host:1",
        "a@b:1",
        "::1:8500",
        "http://a:1",
        "localhost:x",
    ],
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ValueError, match="address must be HOST:PORT. Received"):
        open_options(address)


@pytest.mark.parametrize("address", ["ftp://a", "http://user@a", "http://a?b", "unix:/run/birds"])
def test_other_addresses_of_rest_are_refused(address):
    with pytest.raises(ValueError, match="address must be HOST:PORT or an http"):
        open_options(address, rest=True)


def test_an_http_url_is_not_encrypted():
    with pytest.raises(ValueError, match="https URL with TLS"):
        open_options("http://birds.example", rest=True, tls=True)


LOCAL = ["localhost:1", "127.9.9.9:1", "[::1]:1", "unix:/run/birds", "dns:///localhost:1"]
FAR = ["birds.example:1", "10.0.0.1:1", "[fe80::1]:1", "localhost.example:1", "0.0.0.0:1"]


@pytest.mark.parametrize("address", LOCAL)
def test_a_token_may_stay_on_the_machine_unencrypted(address):
    assert open_options(address, token="abc").headers == (("authorization", "Bearer abc"),)


@pytest.mark.parametrize("address", FAR)
@pytest.mark.parametrize("secret", [{"token": "abc"}, {"metadata": [("authorization", "Basic x")]}])
def test_no_secret_leaves_the_machine_unencrypted_unless_allowed(address, secret):
    for rest in (False, True):
        with pytest.raises(ValueError, match="A token must travel encrypted"):
            open_options(address, rest=rest, **secret)
        assert open_options(address, rest=rest, tls=True, **secret).headers
        assert open_options(address, rest=rest, allow_insecure_token=True, **secret).headers


def test_secrets_are_not_shown():
    options = open_options(token="abcdef", metadata=[("x-key", "ghijkl")])
    assert "abcdef" not in repr(options) and "ghijkl" not in repr(options)


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "é"])
def test_a_token_cannot_break_out_of_its_header(token):
    with pytest.raises(ValueError, match="token must be printable ASCII"):
        open_options(token=token)


@pytest.mark.parametrize("entry", [("X-Key", "a"), ("a-bin", "a"), (":path", "a"), ("a", "b\r\nc")])
def test_metadata_are_checked(entry):
    with pytest.raises(ValueError, match="in metadata must be"):
        open_options(metadata=[entry])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 0),
        ("timeout", -1.0),
        ("timeout", float("inf")),
        ("timeout", float("nan")),
        ("max_attempts", 0),
        ("chunk_size", 0),
        ("max_message_bytes", 0),
        ("max_message_bytes", 2**31),
        ("keepalive_seconds", 0),
    ],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be.* Received: {name}="):
        open_options(**{name: value})


def test_a_model_is_named_and_its_version_once():
    with pytest.raises(ValueError, match="model must be"):
        open_options(model="")
    with pytest.raises(ValueError, match="version or version_label, not both"):
        open_options(version=1, version_label="stable")


def test_a_certificate_comes_with_its_key():
    with pytest.raises(ValueError, match="must be given together"):
        TlsOptions(certificate_file="client.pem")


def test_http_statuses_have_the_names_of_grpc():
    names = [code_of_http_status(status) for status in (400, 404, 418, 429, 503, 504, 500, 302)]
    assert names == [
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "INVALID_ARGUMENT",
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "INTERNAL",
        "UNKNOWN",
    ]


def test_refusals_say_what_to_do():
    assert "`tfpqn serve`" in str(read_refusal("UNAVAILABLE", "", "localhost:1"))
    assert "longer timeout" in str(read_refusal("DEADLINE_EXCEEDED", "", "localhost:1"))
    error = read_refusal("INVALID_ARGUMENT", "assertion failed: [images: bad] [[{{node a}}]]", "a")
    assert error.message == "[images: bad]"
