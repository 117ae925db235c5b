"""Settings from the environment and the command line."""

import asyncio
from pathlib import Path

import pytest

from model.errors import InputError
from service.models.bucket_sync import open_catalog
from service.runtime.settings import (
    ENVIRONMENT_PREFIX,
    CommonSettings,
    GatewaySettings,
    Settings,
    WorkerSettings,
    read_settings,
    warn_of_mistyped_variables,
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{ENVIRONMENT_PREFIX}{name.upper()}", raising=False)


def read(*arguments: str) -> Settings:
    return read_settings(Settings, "creps serve", "Serves.", arguments)


def test_defaults() -> None:
    settings = read()
    assert (settings.host, settings.port, settings.redis_url, settings.models) == ("127.0.0.1", 8000, None, None)
    assert settings.max_image_pixels == 4096**2
    assert settings.api_keys == ()


def test_options_go_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREPS_PORT", "8001")
    monkeypatch.setenv("CREPS_MODELS", str(tmp_path))
    monkeypatch.setenv("CREPS_LOG_LEVEL", "debug")
    settings = read("--port", "8002", "--request-timeout", "2.5")
    assert (settings.port, settings.request_timeout) == (8002, 2.5)
    assert (settings.models, settings.log_level) == (tmp_path, "debug")


@pytest.mark.parametrize("address", ["file://{}", "{}"])
def test_models_are_a_folder_by_either_name(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "my models"
    folder.mkdir()
    assert read("--models", address.format(folder).replace(" ", "%20" if "file" in address else " ")).models == folder


def test_models_are_a_bucket() -> None:
    assert read("--models", "s3://bucket/some/prefix").models == "s3://bucket/some/prefix"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREPS_REDIS_URL", "")
    monkeypatch.setenv("CREPS_API_KEYS", "")
    assert read().redis_url is None
    assert read().api_keys == ()


def test_a_mistyped_variable_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in (
        "CREPS_QUEUE_LIMT",
        "CREPS_GATEWAY_PORT",
        "CREPS_REDIS_SERVICE_HOST",
        "CREPS_CUDA_GRAPHS",
        "CREPS_NATIVE",
    ):
        monkeypatch.setenv(name, "3")
    warn_of_mistyped_variables()
    assert caplog.messages == ["CREPS_QUEUE_LIMT is ignored; did you mean CREPS_QUEUE_LIMIT?"]


def test_keys_are_separated_by_commas_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREPS_API_KEYS", "first-key, second-key")
    settings = read()
    assert [key.get_secret_value() for key in settings.api_keys] == ["first-key", "second-key"]
    assert "first-key" not in repr(settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "65536"), "--port: must be at most 65535, not '65536'"),
        (("--port", "http"), "--port: must be an integer, not 'http'"),
        (("--models", "/absent"), "--models: must be an existing folder, not '/absent'"),
        (("--models", "s3://no_bucket"), "--models: must be an existing folder, not 's3://no_bucket'"),
        (("--gpus", "0;1"), "--gpus: must be all, or numbers such as 0,2, not '0;1'"),
        (("--device", "gpu"), "--device: must be auto, cpu, cuda or cuda:N, not 'gpu'"),
        (("--request-timeout", "nan"), "--request-timeout: must be a finite number, not 'nan'"),
        (("--queue-limit", "0"), "--queue-limit: must be at least 1, not '0'"),
        (("--log-level", "loud"), "--log-level: must be 'debug', 'info', 'warning' or 'error', not 'loud'"),
    ],
)
def test_bad_options(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(*arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CREPS_PORT", "-1", "CREPS_PORT: must be at least 0, not '-1'"),
        ("CREPS_PROCESSES", "0", "CREPS_PROCESSES: must be at least 1, not '0'"),
        ("CREPS_PROCESSES", "65", "CREPS_PROCESSES: must be at most 64, not '65'"),
        ("CREPS_PROCESSES", "two", "CREPS_PROCESSES: must be an integer"),
        ("CREPS_API_KEYS", "secret,,key", "CREPS_API_KEYS: keys must be printable ASCII"),
        ("CREPS_API_KEYS", "clé", "CREPS_API_KEYS: keys must be printable ASCII"),
        ("CREPS_API_KEYS_FILE", "/absent", "CREPS_API_KEYS_FILE: must be an existing file, not '/absent'"),
        ("CREPS_CORS_ORIGINS", "*", "CREPS_CORS_ORIGINS: must be origins such as https://example.org"),
        ("CREPS_CORS_ORIGINS", "https://a.example/", "CREPS_CORS_ORIGINS: must be origins such as https://example.org"),
        ("CREPS_DOCS", "perhaps", "CREPS_DOCS: must be true or false"),
    ],
)
def test_bad_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught:
        read()
    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "redis://host",
        "redis://:6379",
        "redis://[::1]:6379/2",
        "redis://user:p%2Fss@host:6379/0?socket_timeout=9",
        "rediss://:p@ss@host/0?ssl_cert_reqs=none&ssl_check_hostname=no",
        "unix:///a%23b/socket?db=3&password=p",
    ],
)
def test_addresses_of_redis(address: str) -> None:
    assert read("--redis-url", address).redis_url == address


MALFORMED = "must be redis://HOST:PORT/NUMBER, rediss://HOST:PORT/NUMBER or unix:///PATH; percent-encode the password"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        *(
            (address, MALFORMED)
            for address in (
                *("host:6379", "http://user:secret@host", "redis://host:0", "redis://host/name", "redis://[::1"),
                *("redis://:sec/ret@host", "redis://:sec?ret@host", "redis://:sec#ret@host", "redis://:sec[ret@host"),
                *("redis://:1/secret@host", "redis://:1#secret@host", "unix://secret", "unix://tmp/secret"),
            )
        ),
        *(
            (address, "has an unknown option: there are db, ")
            for address in (
                *("redis://:1?secret@host", "redis://host?ssl=true", "redis://host?foo=bar", "redis://host?encoding=a"),
                *("redis://host?decode_responses=true", "redis://host?ssl_cert_reqs=none", "redis://host?protocol=3"),
            )
        ),
        ("redis://host?db=one", "has an invalid option: Invalid value for 'db'"),
        ("rediss://host?ssl_cert_reqs=maybe", "has an invalid option: Invalid SSL Certificate Requirements"),
        ("rediss://host?ssl_ca_certs=/absent", "has an invalid option: [Errno 2] No such file or directory"),
        ("rediss://host?ssl_secret=1", "has an invalid option: "),
    ],
)
@pytest.mark.parametrize("name", ["CREPS_REDIS_URL", "CREPS_CACHE_URL"])
def test_bad_addresses_of_redis(monkeypatch: pytest.MonkeyPatch, name: str, address: str, message: str) -> None:
    monkeypatch.setenv(name, address)
    with pytest.raises(InputError) as caught:
        read()
    assert str(caught.value).startswith(f"{name}: {message}")
    assert "secret" not in str(caught.value).replace("ssl_secret", "")


def test_without_a_home_folder_only_a_bucket_needs_a_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # as for a number that a container runs as
    assert read("--models", str(tmp_path)).model_cache is None
    assert read("--model-cache", "copies").model_cache == Path("copies")

    async def open_bucket() -> None:
        async with open_catalog(read("--models", "s3://bucket")):
            pytest.fail("there is no folder for copies")

    with pytest.raises(InputError, match="model_cache: is required"):
        asyncio.run(open_bucket())


@pytest.mark.parametrize("address", ["file:///a#b", "file:///a?b", "file://host/a"])
@pytest.mark.parametrize("name", ["outputs", "models"])
def test_a_folder_is_not_cut_off(name: str, address: str) -> None:
    with pytest.raises(InputError, match=f"--{name}: "):
        read(f"--{name}", address)


def test_a_command_has_only_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(WorkerSettings, "creps worker", "Renders.", ["--port", "1"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "creps worker: error: unrecognized arguments: --port 1 (see creps worker --help)\n"
    )


def test_help_describes_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert f"CREPS_{name.upper()}" in text
        assert field.description
    assert "Undefined" not in text


@pytest.mark.parametrize("kind", [WorkerSettings, GatewaySettings])
def test_help_of_a_part_is_about_this_part(capsys: pytest.CaptureFixture[str], kind: type[CommonSettings]) -> None:
    with pytest.raises(SystemExit):
        read_settings(kind, "creps part", "A part.", ["--help"])
    assert "embedded" not in capsys.readouterr().out


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = read("--models", str(tmp_path), "--batch-limit", "3", "--api-keys", "secret", "--request-timeout", "1.5")
    settings = settings.model_copy(update={"docs": False, "cors_origins": "https://a.example, https://b.example"})
    environment = settings.to_environment()
    assert "secret" not in str(environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings.model_copy(update={"api_keys": ()})
