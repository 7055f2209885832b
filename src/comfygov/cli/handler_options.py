"""Options that the commands of `gov handler` share. Each can be set by an environment variable, as containers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from comfygov.cli.entry import offer

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfygov.model.handler import Settings
    from comfygov.ops.handler_worker import WorkerRequest

_SECONDS = click.FloatRange(min=0, min_open=True)
_VERSION = (
    click.option("--runtime", metavar="FILE", envvar="COMFYGOV_RUNTIME", help="A runtime file, as images hold one."),
    click.option("--lock", metavar="F", help="A lock file; the version is made in the cache when it is not there."),
    click.option(
        "--version",
        metavar="NAME",
        envvar="COMFY_VERSION_NAME",
        shell_complete=offer("versions"),
        help="A version of the home, in place of --lock.",
    ),
    click.option("--offline", is_flag=True, help="Ask no server while the version is made."),
    click.option("--skip-models", is_flag=True, help="Fetch no models while the version is made."),
    click.option("--cpu", is_flag=True, envvar="COMFYGOV_CPU", help="Run on the processor."),
)
work_dir_option = click.option(
    "--work-dir",
    default="",
    metavar="DIR",
    envvar="COMFYGOV_WORK_DIR",
    help="The only directory that is written (default: a fresh temporary one).",
)
start_seconds_option = click.option(
    "--start-timeout",
    type=_SECONDS,
    default=900.0,
    show_default=True,
    metavar="S",
    envvar="COMFYGOV_START_TIMEOUT",
    help="Seconds that ComfyUI has to become ready.",
)
_WORKER = (
    work_dir_option,
    click.option("--output", type=click.Choice(["base64", "gcs", "s3", "azure", "file"]), envvar="COMFYGOV_OUTPUT",
                 help="Where results go (default: the bucket that the environment names, else base64)."),
    click.option("--bucket", default="", metavar="NAME", envvar="COMFYGOV_BUCKET", help="The bucket or container."),
    click.option("--prefix", default="", metavar="P", envvar="COMFYGOV_PREFIX", help="Before every object's name."),
    click.option("--object-name", default="{job_id}/{filename}", show_default=True, metavar="T",
                 envvar="COMFYGOV_OBJECT_NAME", help="Template of objects' names; docs/handler.md lists the fields."),
    click.option("--url-seconds", type=click.IntRange(1, 604_800), metavar="S", envvar="COMFYGOV_URL_SECONDS",
                 help="Sign addresses for so long (S3 and Azure: a week by itself)."),
    click.option("--out-dir", default="", metavar="DIR", envvar="COMFYGOV_OUT_DIR", help="Folder of --output file."),
    start_seconds_option,
    click.option("--allow-private-urls", is_flag=True, envvar="COMFYGOV_ALLOW_PRIVATE_URLS",
                 help="Fetch inputs from addresses of this network too."),
)  # fmt: skip


def version_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_VERSION):
        command = option(command)
    return command


def worker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_WORKER):
        command = option(command)
    return version_options(command)


def job_seconds_option(default: float) -> Callable[..., Any]:
    text = "Seconds that a job may take, if it does not say itself."
    return click.option("--timeout", type=_SECONDS, default=default, show_default=True, metavar="S",
                        envvar="COMFYGOV_TIMEOUT", help=text)  # fmt: skip


def worker_request(home: str | None, given: dict[str, Any], warm_up: str = "") -> WorkerRequest:
    """Of what click collected from the options above."""
    from comfygov.ops.handler_runtime import VersionChoice
    from comfygov.ops.handler_worker import WorkerRequest

    names = ("runtime", "lock", "version", "offline", "skip_models", "cpu")
    choice = VersionChoice(home=home, **{name: given[name] for name in names})
    if choice.lock or choice.runtime:  # a name from the environment stands back
        choice = VersionChoice(home=home, **{name: given[name] for name in names if name != "version"})
    return WorkerRequest(choice, given.get("work_dir", ""), warm_up)


def settings(given: dict[str, Any], inline_limit_bytes: int | None, **more: Any) -> Settings:  # noqa: ANN401
    """Of what click collected from the options above; `more` are further fields of Settings."""
    from comfygov.model.handler import Settings, Storage

    storage = Storage(
        output=given["output"],
        bucket=given["bucket"].removeprefix("gs://").removeprefix("s3://").rstrip("/"),
        prefix=given["prefix"],
        object_name=given["object_name"],
        url_seconds=given["url_seconds"],
        folder=given["out_dir"],
        inline_limit_bytes=inline_limit_bytes,
    )
    return Settings(
        storage=storage,
        job_seconds=given["timeout"],
        start_seconds=given["start_timeout"],
        allow_private_urls=given["allow_private_urls"],
        **more,
    )
