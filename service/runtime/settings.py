"""The service's settings: environment variables ``CREPS_…`` and command-line options of the same names."""

import argparse
import difflib
import logging
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    DirectoryPath,
    Field,
    FilePath,
    FiniteFloat,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model.errors import InputError
from model.util.arguments import ArgumentParser
from model.viewport import MAX_SIDE
from service.runtime.addresses import parse_networks, parse_origins
from service.runtime.logs import LogFormat
from service.runtime.redis import check_address
from service.runtime.validation import explain, matching

logger = logging.getLogger(__name__)

ENVIRONMENT_PREFIX = "CREPS_"

CLOSE = 0.9
"""Likeness, as difflib has it, of a mistyped name: CREPS_REDIS_PORT is not CREPS_PORT."""

MAX_PORT = 65_535

Port = Annotated[int, Field(ge=0, le=MAX_PORT)]

RedisAddress = Annotated[str, AfterValidator(check_address)]

Secrets = Annotated[tuple[SecretStr, ...], NoDecode]

_FOLDER = r"file:///[^?#]*"

_BUCKET = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?"


def _default_cache() -> Path | None:
    """Returns None for a user without a home folder, such as any number that a container runs as."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path's raises an error
    return Path(home) / "creps" if Path(home).is_absolute() else None


def _split(pattern: str, error: str, value: object) -> object:
    """Splits secrets at commas. Each must match the pattern."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",")]
    if not all(re.fullmatch(pattern, part) for part in parts):
        raise ValueError(error)
    return parts


def _check(parse: Callable[[str], object], value: str) -> str:
    parse(value)
    return value


class CommonSettings(BaseSettings):
    """Settings of gateways and workers. An option overrides its environment variable; an empty variable is not set."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, frozen=True, use_attribute_docstrings=True
    )

    redis_url: RedisAddress | None = None
    """Address of the queue's Redis or Valkey server: redis://, rediss:// or unix://. Required."""
    models: DirectoryPath | Annotated[str, Field(pattern=rf"^{_BUCKET}$")] | None = None
    """Checkpoints (*.safetensors) to serve beside the bundled demo, watched for changes: a folder, file:///FOLDER or
    s3://BUCKET/PREFIX."""
    model_cache: Path | None = Field(default_factory=_default_cache)
    """Folder for local copies of a bucket's checkpoints. Required with a bucket where the user has no home folder."""
    model_cache_bytes: int = Field(default=64 * 2**30, ge=1, le=2**50)
    """Most bytes of those copies. Further models are not served."""
    outputs: Annotated[
        str, matching(rf"{_FOLDER}|{_BUCKET}|memory://|[^:]+", "a folder, file:///FOLDER or s3://BUCKET/PREFIX")
    ] = Field(default="outputs", validate_default=True)
    """Files of jobs, the same for gateways and workers: a folder, file:///FOLDER or s3://BUCKET/PREFIX. memory:// is
    for tests in one process."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    log_format: LogFormat = "text"
    """Text, or json: one object per line."""

    def to_environment(self) -> dict[str, str]:
        """Environment variables that give another process the same settings, without secrets."""
        values = self.model_dump(exclude={"api_keys", "webhook_secrets"}, exclude_none=True)
        return {_variable(name): str(value) for name, value in values.items()}

    @field_validator("models", mode="before")
    @classmethod
    def _folder_of_address(cls, value: object) -> object:
        if isinstance(value, str) and re.fullmatch(_FOLDER, value):
            return unquote(urlsplit(value).path)
        return value

    @field_validator("outputs")
    @classmethod
    def _make_absolute(cls, value: str) -> str:
        return value if "://" in value else Path(value).absolute().as_uri()


class WorkerSettings(CommonSettings):
    """Settings of ``creps worker``."""

    device: Annotated[str, matching(r"auto|cpu|cuda(:\d{1,3})?", "auto, cpu, cuda or cuda:N")] = "auto"
    """Device to render on: auto, cpu, cuda or cuda:N."""
    gpus: Annotated[str, matching(r"all|\d{1,3}(,\d{1,3})*", "all, or numbers such as 0,2")] | None = None
    """GPUs, each with a worker process: all, or numbers such as 0,2. Unset: this process is the worker."""
    model_bytes: int | None = Field(default=None, ge=1, le=2**50)
    """Most bytes of memory for a worker's loaded models. Beyond it the least recently used is unloaded. Unset: half of
    the GPU's memory, 4 GiB on a CPU."""
    batch_limit: int | None = Field(default=None, ge=1, le=256)
    """Most images of one model in a batch. Unset: 8 on a CPU, 32 on a GPU."""
    metrics_port: Port | None = None
    """Port of a worker's /metrics and /livez. With several GPUs, of the first worker. Unset: none."""


class GatewaySettings(CommonSettings):
    """Settings of ``creps gateway``."""

    cache_url: RedisAddress | None = None
    """Address of the image cache's Redis or Valkey server, which must not be the queue's. Unset: no cache."""
    host: Annotated[str, AfterValidator(lambda host: host.strip("[]"))] = Field(default="127.0.0.1", min_length=1)
    """Address that the gateway listens on. 0.0.0.0 for all of IPv4, :: for all of IPv6 and IPv4."""
    port: Port = 8000
    """Port that the gateway listens on. 0 for any free one."""
    processes: int = Field(default=1, ge=1, le=64)
    """Gateway processes that share the port. One uses at most one core."""
    api_keys: Annotated[
        Secrets,
        BeforeValidator(partial(_split, r"[!-~]+", "keys must be printable ASCII without spaces, separated by commas")),
    ] = ()
    """API keys for /v1, separated by commas. Better set in the environment. Unset: no key is needed."""
    api_keys_file: FilePath | None = None
    """TOML file of API keys with names, hashes, priorities and rate limits (see creps key), watched for changes."""
    cors_origins: Annotated[str, AfterValidator(partial(_check, parse_origins))] = ""
    """Origins of web pages that may use /v1, such as https://example.org, separated by commas. /iiif is open to all."""
    docs: bool = True
    """Whether the gateway serves /docs and /openapi.json: true or false."""
    metrics: bool = True
    """Whether the gateway serves /metrics: true or false."""
    max_image_pixels: int = Field(default=4096 * 4096, ge=1, le=MAX_SIDE * 1024)
    """Most pixels of one image, as sent and as rendered."""
    max_job_pixels: int = Field(default=2**32, ge=1, le=MAX_SIDE**2)
    """Most pixels of one job's image, as sent and as rendered."""
    job_limit: int = Field(default=100, ge=1, le=10_000)
    """Most unfinished jobs. Beyond it the answer is 429 with Retry-After."""
    job_days: FiniteFloat = Field(default=7.0, gt=0, le=3650)
    """Days after which a finished job and its files, and stored latents, are removed."""
    shared_jobs: bool = False
    """Whether each API key sees the jobs of all keys: true or false. They can also remove them."""
    webhook_secrets: Annotated[
        Secrets,
        BeforeValidator(
            partial(
                _split,
                r"whsec_[A-Za-z0-9+/]{32,86}={0,2}",
                "must be whsec_ and 24 to 64 bytes in base64, separated by commas",
            )
        ),
    ] = ()
    """Secrets whsec_BASE64 that sign webhooks, separated by commas. Better set in the environment. With two of them
    receivers can change from one to the other. Unset: no webhooks."""
    webhook_private: bool = False
    """Whether webhooks may use private addresses and http://: true or false."""
    answer_bytes: int = Field(default=256 * 2**20, ge=2**20, le=2**40)
    """Most bytes of images in flight to the clients of one gateway. Beyond it the answer is 503. Several processes
    share it evenly."""
    root_path: Annotated[
        str, matching(r"(/[A-Za-z0-9._~-]+)*", "a path such as /creps, without a slash at its end")
    ] = ""
    """Path prefix of the service behind a proxy, such as /creps. The proxy may strip it."""
    trusted_proxies: Annotated[str, AfterValidator(partial(_check, parse_networks))] = "127.0.0.1,::1"
    """Addresses and networks of proxies whose X-Forwarded-… headers are trusted, separated by commas."""
    queue_limit: int = Field(default=256, ge=1, le=100_000)
    """Most queued requests of one priority. Beyond it the answer is 429 with Retry-After."""
    request_timeout: FiniteFloat = Field(default=60.0, gt=0, le=3600)
    """Seconds until a request for an image is answered with 504."""
    keep_alive: int = Field(default=75, ge=1, le=3600)
    """Seconds until an idle connection is closed. Must be longer than a proxy in front keeps its connections."""
    drain_seconds: FiniteFloat = Field(default=0.0, ge=0, le=300)
    """Seconds after SIGTERM in which a gateway still accepts requests while /readyz answers 503, so that load balancers
    notice. Requests in flight are finished after that in any case."""

    @property
    def needs_key(self) -> bool:
        return bool(self.api_keys or self.api_keys_file)


class Settings(GatewaySettings, WorkerSettings):
    """Settings of ``creps serve``: all of them."""

    redis_url: RedisAddress | None = None
    """Address of the queue's Redis or Valkey server: redis://, rediss:// or unix://. Unset: an embedded one."""
    cache_url: RedisAddress | None = None
    """Address of the image cache's Redis or Valkey server, which must not be the queue's. Unset: an embedded one."""
    cache_bytes: int = Field(default=256 * 2**20, ge=0, le=2**40)
    """Bytes of memory of the embedded cache of encoded images, of which its server itself takes 1 to 2 MB. 0 for no
    cache. A server at cache_url has its own limit."""


SettingsType = TypeVar("SettingsType", bound=CommonSettings)


def read_settings(kind: type[SettingsType], program: str, description: str, arguments: Sequence[str]) -> SettingsType:
    """Reads the settings of a command, each of which is an option, from its arguments and the environment.

    Raises InputError, which names the option or environment variable that is invalid.
    """
    parser = ArgumentParser(prog=program, description=description, argument_default=argparse.SUPPRESS)
    for name, field in kind.model_fields.items():
        metavar = name.rpartition("_")[2].upper()
        parser.add_argument(_option(name), dest=name, metavar=metavar, help=_help(name, field))
    given = vars(parser.parse_args(arguments))
    try:
        return kind(**given)
    except ValidationError as invalid:
        error = invalid.errors()[0]
        name = str(error["loc"][0]).lower().removeprefix(ENVIRONMENT_PREFIX.lower())
        show_input = name not in ("api_keys", "webhook_secrets", "redis_url", "cache_url")  # which may hold secrets
        raise InputError(
            _option(name) if name in given else _variable(name), explain(error, show_input=show_input)
        ) from None


def warn_of_mistyped_variables() -> None:
    """Logs variables that are nearly those of settings. Kubernetes sets others that begin with the prefix."""
    known = {_variable(name) for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            for close in difflib.get_close_matches(name, known, 1, CLOSE):
                logger.warning("%s is ignored; did you mean %s?", name, close)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


def _help(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if isinstance(default, bool):
        default = str(default).lower()
    shown = "" if default in (None, (), "") else f"default {default}, "
    return f"{field.description} ({shown}environment {_variable(name)})".replace("%", "%%")
