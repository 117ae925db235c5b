"""The service's settings: environment variables ``CREPS_…`` and command-line options of the same names."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import DirectoryPath, Field, FilePath, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model.arguments import ArgumentParser
from model.errors import InputError
from model.viewport import MAX_SIDE
from service.gateway.origins import parse_origins
from service.gateway.proxies import parse_networks
from service.logs import LogFormat
from service.validation import explain

ENVIRONMENT_PREFIX = "CREPS_"

MAX_PORT = 65_535

Port = Annotated[int, Field(ge=0, le=MAX_PORT)]


class Settings(BaseSettings):
    """Everything that can be set. An option on the command line goes before its environment variable.

    An environment variable that is empty counts as not set.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, frozen=True)

    redis_url: Annotated[str | None, Field(pattern=r"^(redis|rediss|unix)://.+")] = Field(
        default=None,
        description="Redis or Valkey server of the queue, as redis://, rediss:// or unix:// address; "
        "unset: creps serve starts an embedded one",
    )
    models: DirectoryPath | Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$")] | None = (
        Field(
            default=None,
            description="checkpoints (*.safetensors) that are served beside the bundled demo, watched for changes: "
            "a folder, file:///FOLDER or s3://BUCKET/PREFIX",
        )
    )
    model_cache: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "creps",
        description="folder of this machine for copies of the checkpoints in a bucket; XDG_CACHE_HOME/creps or "
        "~/.cache/creps unless set",
    )
    model_cache_bytes: int = Field(
        default=64 * 2**30, ge=1, le=2**50, description="bytes of those copies, beyond which no further model is served"
    )
    model_bytes: int | None = Field(
        default=None,
        ge=1,
        le=2**50,
        description="bytes of memory that a worker's loaded models may take, beyond which the longest unused is "
        "unloaded; unset: half of a GPU's memory, 4 GiB on a CPU",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$",
        description="device that renders: auto, cpu, cuda or cuda:0 …",
    )
    gpus: str | None = Field(
        default=None,
        pattern=r"^(all|\d{1,3}(,\d{1,3})*)$",
        description="GPUs that get a worker process each, started again when it dies: all, or numbers such as 0,2; "
        "unset: this process is one worker",
    )
    host: str = Field(
        default="127.0.0.1", min_length=1, description="address that the gateway listens on; 0.0.0.0 for all"
    )
    port: Port = Field(default=8000, description="port that the gateway listens on; 0 for any free one")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="keys that may use /v1, separated by commas, best set in the environment; unset: no key needed",
    )
    api_keys_file: FilePath | None = Field(
        default=None,
        description="TOML file of named keys with their hashes, priorities and budgets (creps key makes them); watched "
        "for changes",
    )
    cors_origins: str = Field(
        default="",
        description="sites whose pages may use /v1, such as https://example.org, separated by commas; /iiif is open to "
        "the pages of all",
    )
    docs: bool = Field(default=True, description="whether the gateway shows /docs and /openapi.json: true or false")
    metrics: bool = Field(default=True, description="whether the gateway shows its /metrics: true or false")
    max_image_pixels: int = Field(
        default=4096 * 4096, ge=1, le=MAX_SIDE * 1024, description="most pixels of one picture, as sent and as rendered"
    )
    outputs: str = Field(
        default="outputs",
        pattern=r"^(file:///.*|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?|memory://|[^:]+)$",
        validate_default=True,
        description="where jobs keep their files, the same for gateways and workers: a folder, file:///FOLDER or "
        "s3://BUCKET/PREFIX; memory:// is for tests in one process",
    )
    max_job_pixels: int = Field(
        default=2**32, ge=1, le=MAX_SIDE**2, description="most pixels of one job's picture, as sent and as rendered"
    )
    job_limit: int = Field(
        default=100, ge=1, le=10_000, description="most unfinished jobs; beyond it the answer is 429 with Retry-After"
    )
    job_days: float = Field(
        default=7.0,
        gt=0,
        le=3650,
        allow_inf_nan=False,
        description="days after which a finished job and its files are removed",
    )
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="secrets whsec_BASE64 that sign what webhooks are told of ended jobs, separated by commas, best "
        "set in the environment; while there are two, receivers can change over; unset: no webhooks",
    )
    webhook_private: bool = Field(
        default=False, description="whether webhooks may have private addresses, and http:// ones: true or false"
    )
    cache_bytes: int = Field(
        default=256 * 2**20,
        ge=0,
        le=2**40,
        description="bytes of encoded pictures that are kept in Redis for those who ask again; 0 keeps none",
    )
    answer_bytes: int = Field(
        default=256 * 2**20,
        ge=2**20,
        le=2**40,
        description="bytes of pictures that clients may be taking from one gateway; others are told to come back",
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path under which a proxy shows the service, such as /creps; it need not pass it on",
    )
    trusted_proxies: str = Field(
        default="127.0.0.1",
        description="addresses and networks of proxies whose X-Forwarded-… headers are believed, separated by commas",
    )
    queue_limit: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="most requests of one priority that wait; beyond it the answer is 429 with Retry-After",
    )
    batch_limit: int = Field(
        default=8, ge=1, le=256, description="most pictures of one model that a worker renders together"
    )
    request_timeout: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds that a picture may take before the answer is 504",
    )
    drain_seconds: float = Field(
        default=0.0,
        ge=0,
        le=300,
        allow_inf_nan=False,
        description="seconds from SIGTERM for which a gateway still takes requests while /readyz answers 503, so that "
        "load balancers notice; pictures under way are finished after them in any case",
    )
    metrics_port: Port | None = Field(
        default=None,
        description="port of a worker's own /metrics and /livez; with several GPUs that of the first; unset: none",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    log_format: LogFormat = Field(
        default="text", description="text for people, or json: one object a line, for programs that collect logs"
    )

    def to_environment(self) -> dict[str, str]:
        """The environment variables that give another process the same settings, keys excepted."""
        values = self.model_dump(exclude={"api_keys", "webhook_secrets"}, exclude_none=True)
        return {f"{ENVIRONMENT_PREFIX}{name.upper()}": str(value) for name, value in values.items()}

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        try:
            parse_networks(value)
        except ValueError:
            raise ValueError("must be addresses or networks, separated by commas") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: str) -> str:
        parse_origins(value)
        return value

    @property
    def needs_key(self) -> bool:
        """Whether clients must send a key."""
        return bool(self.api_keys or self.api_keys_file)

    @field_validator("models", mode="before")
    @classmethod
    def _folder_of_address(cls, value: object) -> object:
        if isinstance(value, str) and value.startswith("file://"):
            return unquote(urlsplit(value).path)
        return value

    @field_validator("outputs")
    @classmethod
    def _make_absolute(cls, value: str) -> str:
        return value if "://" in value else Path(value).absolute().as_uri()

    @field_validator("webhook_secrets", mode="before")
    @classmethod
    def _split_secrets(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        secrets = [secret.strip() for secret in value.split(",")]
        if not all(re.fullmatch(r"whsec_[A-Za-z0-9+/]{32,86}={0,2}", secret) for secret in secrets):
            raise ValueError("must be whsec_ and 24 to 64 bytes in base64, separated by commas")
        return secrets

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        keys = [key.strip() for key in value.split(",")]
        if not all(re.fullmatch(r"[!-~]+", key) for key in keys):
            raise ValueError("keys must be printable ASCII without spaces, separated by commas")
        return keys


def read_settings(
    program: str, description: str, arguments: Sequence[str], options: Iterable[str] = Settings.model_fields
) -> Settings:
    """The settings of one command, from its arguments and the environment.

    Args:
        program: the command as typed, for its messages.
        description: what it does, for ``--help``.
        arguments: what follows it on the command line.
        options: names of the settings that this command uses; only these are options of it.

    Raises:
        InputError: names the option or environment variable whose value cannot be used.
    """
    parser = ArgumentParser(prog=program, description=description, argument_default=None)
    for name in options:
        field = Settings.model_fields[name]
        default = "" if field.default in (None, ()) else f"default {field.default}, "
        parser.add_argument(
            _option(name),
            dest=name,
            metavar=name.rsplit("_", 1)[-1].upper(),
            help=f"{field.description} ({default}environment {ENVIRONMENT_PREFIX}{name.upper()})",
        )
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise _input_error(error.errors()[0], given) from None


def _input_error(error: ErrorDetails, given: dict[str, Any]) -> InputError:
    name = str(error["loc"][0]).lower().removeprefix(ENVIRONMENT_PREFIX.lower())
    source = _option(name) if name in given else f"{ENVIRONMENT_PREFIX}{name.upper()}"
    return InputError(
        source, explain(error, show_input=name not in ("api_keys", "webhook_secrets", "redis_url"))
    )  # may hold secrets


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
