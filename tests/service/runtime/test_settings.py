"""Settings from the environment and the command line."""

from pathlib import Path

import pytest

from model.errors import InputError
from service.settings import ENVIRONMENT_PREFIX, Settings, read_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{ENVIRONMENT_PREFIX}{name.upper()}", raising=False)


def read(*arguments: str) -> Settings:
    return read_settings("creps serve", "Serves.", arguments)


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


def test_keys_are_separated_by_commas_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREPS_API_KEYS", "first-key, second-key")
    settings = read()
    assert [key.get_secret_value() for key in settings.api_keys] == ["first-key", "second-key"]
    assert "first-key" not in repr(settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "65536"), "--port: must be at most 65535, not '65536'"),
        (("--port", "http"), "--port: must be a valid integer, unable to parse string as an integer, not 'http'"),
        (("--models", "/absent"), "--models: Path does not point to a directory, not '/absent'"),
        (("--models", "s3://no_bucket"), "--models: Path does not point to a directory, not 's3://no_bucket'"),
        (("--gpus", "0;1"), "--gpus: must match ^(all|\\d{1,3}(,\\d{1,3})*)$, not '0;1'"),
        (("--redis-url", "http://user:secret@host"), "--redis-url: must match ^(redis|rediss|unix)://.+"),
        (("--device", "gpu"), "--device: must match ^(auto|cpu|cuda(:\\d{1,3})?)$, not 'gpu'"),
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
        ("CREPS_API_KEYS", "secret,,key", "CREPS_API_KEYS: keys must be printable ASCII"),
        ("CREPS_API_KEYS", "clé", "CREPS_API_KEYS: keys must be printable ASCII"),
        ("CREPS_API_KEYS_FILE", "/absent", "CREPS_API_KEYS_FILE: Path does not point to a file, not '/absent'"),
        ("CREPS_CORS_ORIGINS", "*", "CREPS_CORS_ORIGINS: must be origins such as https://example.org"),
        ("CREPS_CORS_ORIGINS", "https://a.example/", "CREPS_CORS_ORIGINS: must be origins such as https://example.org"),
        ("CREPS_DOCS", "perhaps", "CREPS_DOCS: must be a valid boolean"),
    ],
)
def test_bad_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught:
        read()
    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


def test_a_command_has_only_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings("creps worker", "Renders.", ["--port", "1"], options=("device", "models"))
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


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = read("--models", str(tmp_path), "--batch-limit", "3", "--api-keys", "secret", "--request-timeout", "1.5")
    settings = settings.model_copy(update={"docs": False, "cors_origins": "https://a.example, https://b.example"})
    environment = settings.to_environment()
    assert "secret" not in str(environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings.model_copy(update={"api_keys": ()})
