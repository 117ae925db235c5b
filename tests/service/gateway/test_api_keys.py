"""Files of keys: what they may hold, who gets in, how they are changed, and that no key is ever shown."""

import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from model.config import GeneratorConfig
from model.errors import InputError
from service.cli import main
from service.gateway import api_keys
from service.gateway.api_keys import APIKeyStore, hash_of, make_key, parse_keys
from service.gateway.middleware.auth import _given_key
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import LONG

KEY, OTHER = b"creps_the-one", b"creps_the-other"


def entry(key: bytes = KEY, name: str = "viewer", more: str = "") -> str:
    return f'[[key]]\nname = "{name}"\nhash = "{hash_of(key)}"\n{more}\n'


def write(file: Path, content: str) -> None:
    """In one step, as a deployment replaces a mounted secret."""
    new = file.with_suffix(".new")
    new.write_text(content)
    os.replace(new, file)  # noqa: PTH105


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "REFRESH_SECONDS", 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text(entry())
    return file


def test_all_that_an_entry_may_say() -> None:
    more = 'priority = "batch"\nrequests_per_minute = 60\npixels_per_minute = 1_000_000\nexpires = 2999-01-01T00:00:00Z'
    (key,) = parse_keys(entry(more=more).encode())
    assert (key.name, key.priority, key.requests_per_minute, key.pixels_per_minute) == ("viewer", "batch", 60, 10**6)
    assert key.expires is not None
    assert key.expires.year == 2999
    assert not key.has_expired


def test_an_entry_has_no_limits_by_itself() -> None:
    (key,) = parse_keys(entry().encode())
    assert (key.priority, key.requests_per_minute, key.pixels_per_minute, key.expires) == ("interactive", *[None] * 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "key: is missing: there must be at least one [[key]]"),
        ("key = []", "key: is missing: there must be at least one [[key]]"),
        ("key = [3]", "key 1: entry"),
        ("[key]\nname = 'viewer'", "key: is missing"),
        ("[[keys]]\nname = 'viewer'", "keys: is unknown"),
        ("[[key]\n", "file: is not TOML: "),
        ("[[key]]\nname = 'viewer'", "key 1 ('viewer'): hash is missing"),
        (
            entry() + entry(OTHER, "two words"),
            "key 2 ('two words'): name must be 1 to 64 letters, digits, '.', '_' and '-', not 'two words'",
        ),
        (entry(more="colour = 'red'"), "key 1 ('viewer'): colour is unknown"),
        (entry(more="priority = 'high'"), "key 1 ('viewer'): priority must be 'interactive' or 'batch'"),
        (entry(more="requests_per_minute = 0"), "key 1 ('viewer'): requests_per_minute must be at least 1, not 0"),
        (entry(more="pixels_per_minute = 1e6"), "key 1 ('viewer'): pixels_per_minute must be a valid integer"),
        (entry(more="expires = 2999-01-01T00:00:00"), "key 1 ('viewer'): expires must have timezone info"),
        (entry() + entry(OTHER), "key 2 ('viewer'): name is used by an earlier entry"),
        (entry() + entry(name="other"), "key 2 ('other'): hash is used by an earlier entry"),
        ("#" * (api_keys.MAX_FILE_BYTES + 1), "file: is above the limit of 1048576 bytes"),
        ("a = " + "[" * 50_000, "file: is not TOML: "),
    ],
)
def test_bad_files_name_entry_and_field(content: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_keys(content.encode())
    assert str(error.value).startswith(message)


@given(st.text(st.characters(codec="utf-8", exclude_characters='"\\\n\r'), max_size=80))
def test_a_key_in_the_place_of_its_hash_is_not_repeated(text: str) -> None:
    secret = f"creps_{text}_secret"
    with pytest.raises(InputError) as error:
        parse_keys(f"[[key]]\nname = \"viewer\"\nhash = '''{secret}'''".encode())
    assert "secret" not in str(error.value)


def _table(values: dict[str, str | int]) -> bytes:
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    return "\n".join(["[[key]]", *lines]).encode("utf-8", "surrogatepass")


PIECES = st.sampled_from([*entry(), "\n", "[[key]]", "=", "[", "{", '"', "expires = 1979-05-27"])
FIELDS = st.sampled_from(["name", "hash", "priority", "expires", "x"])


@given(
    st.binary(max_size=300)
    | st.lists(PIECES, max_size=60).map(lambda pieces: "".join(pieces).encode())
    | st.dictionaries(FIELDS, st.text(max_size=9) | st.integers()).map(_table)
)
def test_whatever_a_file_holds_is_parsed_or_refused(content: bytes) -> None:
    try:
        parsed = parse_keys(content)
    except InputError:
        return
    assert parsed
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", key.hash) for key in parsed)


def test_made_keys_are_long_and_never_the_same() -> None:
    made = {make_key() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"creps_[A-Za-z0-9_-]{43}", key) for key in made)


def test_the_command_makes_an_entry_that_lets_its_key_in(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["key", "viewer"]) == 0
    printed = capsys.readouterr()
    key = printed.err.split()[-1]
    assert key not in printed.out
    file = tmp_path / "keys.toml"
    file.write_text(printed.out)
    found = APIKeyStore([], file).find(key.encode())
    assert found is not None
    assert found.name == "viewer"


def test_the_command_refuses_names_that_no_file_may_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", 'a"\nb']) == 2
    assert capsys.readouterr().err.startswith("creps key: error: NAME: must be 1 to 64 letters")


def test_keys_of_the_setting_and_of_the_file(file: Path) -> None:
    ring = APIKeyStore(["plain"], file)
    found = [ring.find(given) for given in (b"plain", KEY, OTHER, b"", hash_of(KEY).encode())]
    assert [key and key.name for key in found] == ["CREPS_API_KEYS:1", "viewer", None, None, None]


def test_all_keys_are_compared_in_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return one == other

    ring = APIKeyStore(["plain"], file)
    monkeypatch.setattr("service.gateway.api_keys.hmac.compare_digest", compare)
    for given_key in (b"plain", KEY, b"unknown"):
        compared.clear()
        ring.find(given_key)
        assert compared == [hash_of(b"plain"), hash_of(KEY)]


def test_keys_come_and_go_with_the_file(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.gateway")
    ring = APIKeyStore([], file)
    assert [record.getMessage() for record in caplog.records] == [f"{file} has 1 key"]
    write(file, entry() + entry(OTHER, "second"))
    assert ring.find(KEY)
    assert ring.find(OTHER)
    write(file, entry(OTHER, "second", "priority = 'batch'"))
    assert ring.find(KEY) is None
    assert ring.find(OTHER)
    told = [record.getMessage() for record in caplog.records if record.name == "service.gateway.audit"]
    changes = ["second was added", "second was changed", "viewer was removed"]
    assert told == [f"API key {change} in {file}" for change in changes]


def test_a_bad_file_is_told_once_and_the_last_good_one_stays(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = APIKeyStore([], file)
    write(file, entry(OTHER, "second", "priority = 'urgent'"))
    for _ in range(3):
        assert ring.find(KEY)
        assert ring.find(OTHER) is None
    file.unlink()
    for _ in range(3):
        assert ring.find(KEY)
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(messages) == 2
    assert "key 1 ('second'): priority" in messages[0]
    assert "cannot be read" in messages[1]
    write(file, entry(OTHER))
    assert ring.find(OTHER)
    assert ring.find(KEY) is None


def test_a_bad_file_at_the_start_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(entry(more="priority = 'urgent'"))
    arguments = ["gateway", "--redis-url", "redis://127.0.0.1:1", "--port", "0", "--api-keys-file", str(file)]
    assert main(arguments) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"creps gateway: error: CREPS_API_KEYS_FILE: {file}: key 1 ('viewer'): priority must be")


@pytest.fixture
def gateway(tmp_path: Path, file: Path) -> Iterator[RunningGateway]:
    models = tmp_path / "models"
    models.mkdir()
    with run_gateway(models, settings(api_keys_file=file)) as running:
        save_hollow_checkpoint(models, "plain", GeneratorConfig(32))
        yield running


def status(gateway: RunningGateway, key: bytes) -> int:
    return gateway.http.get("/v1/models", headers={b"X-API-Key": key}).status_code


def test_keys_are_rotated_without_a_restart(gateway: RunningGateway, file: Path) -> None:
    assert (status(gateway, KEY), status(gateway, OTHER)) == (200, 401)
    write(file, entry(KEY, "old") + entry(OTHER, "new"))
    assert (status(gateway, KEY), status(gateway, OTHER)) == (200, 200)
    write(file, entry(OTHER, "new"))
    assert (status(gateway, KEY), status(gateway, OTHER)) == (401, 200)


def test_a_key_expires(gateway: RunningGateway, file: Path) -> None:
    write(file, entry(more="expires = 2020-01-01T00:00:00+01:00"))
    response = gateway.http.get("/v1/models", headers={b"X-API-Key": KEY})
    assert response.status_code == 401
    assert response.json()["detail"] == "this key has expired"


def test_the_log_has_the_keys_name_and_never_the_key(gateway: RunningGateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    gateway.http.get("/v1/models", headers={"Authorization": f"Bearer {KEY.decode()}"})
    gateway.http.get("/v1/models", headers={"X-API-Key": OTHER.decode()})
    end = time.monotonic() + LONG
    while sum("/v1/models" in record.getMessage() for record in caplog.records) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    text = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("service"))
    assert '127.0.0.1 (viewer) "GET /v1/models" 200' in text
    assert KEY.decode() not in text
    assert OTHER.decode() not in text
    assert hash_of(KEY) not in text
    assert [record.__dict__["key"] for record in caplog.records if "key" in record.__dict__] == ["viewer"]


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=100))
def test_whatever_is_given_as_a_key(text: str) -> None:
    for name in (b"authorization", b"x-api-key"):
        given_key = _given_key(Headers(raw=[(name, text.encode("latin-1"))]))
        assert given_key in text.encode("latin-1")
    assert _given_key(Headers({"authorization": f"Bearer  {text} "})).decode("latin-1") == text.strip()
