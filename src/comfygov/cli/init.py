"""`gov init`."""

from __future__ import annotations

import click

from comfygov.cli.entry import Options, command_line, common, progress, show, timeout_option


@click.command()
@click.option("--path", metavar="DIR", help="Where the home shall be (default: --home, $COMFY_HOME, ./comfy).")
@click.option("--comfyui-dir", metavar="DIR", help="Govern this existing install as it is, instead of cloning.")
@click.option("--repo", metavar="URL", help="Clone ComfyUI from here (default: the official repository).")
@click.option("--ref", help="Branch, tag or commit of ComfyUI.")
@click.option("--python", metavar="PY", help="Python to build on: a path, or a version such as 3.12.")
@click.option(
    "--venv", metavar="PATH", help="Where the environment's link shall be; with --comfyui-dir, the one to adopt."
)
@click.option("--install-torch", metavar="BUILD", help="auto, cpu, skip, cuNNN or rocmN.N (default: skip).")
@click.option("--find-links", multiple=True, metavar="DIR", help="A directory of wheels for the resolver.")
@click.option("--index-url", metavar="URL", help="The package index (`none`: only --find-links).")
@click.option("--constraint", multiple=True, metavar="SPEC", help="Hold a package, e.g. 'torch==2.11.*'.")
@click.option("--require", multiple=True, metavar="SPEC", help="A package that this ComfyUI needs and does not name.")
@click.option("--as-of", metavar="WHEN", help="See the index as it was at a DATE, or at ComfyUI's `commit`.")
@timeout_option("Seconds that ComfyUI has to become ready.")
@common
def init(
    options: Options,
    path: str | None,
    comfyui_dir: str | None,
    repo: str | None,
    ref: str | None,
    python: str | None,
    venv: str | None,
    install_torch: str | None,
    find_links: tuple[str, ...],
    index_url: str | None,
    constraint: tuple[str, ...],
    require: tuple[str, ...],
    as_of: str | None,
    timeout: float | None,
) -> None:
    """Make a governed home with ComfyUI; run it again to check and repair one."""
    from comfygov.cli.render.views import init_lines
    from comfygov.ops.context import find_root
    from comfygov.ops.init import initialise
    from comfygov.ops.init_settings import InitRequest

    request = InitRequest(
        root=find_root(path or options.home),
        comfyui_dir=comfyui_dir,
        repo=repo,
        ref=ref,
        python=python,
        venv=venv,
        install_torch=install_torch,
        find_links=find_links,
        index_url=index_url,
        constraints=constraint,
        require=require,
        as_of=as_of,
        timeout_seconds=timeout,
    )
    result = initialise(request, command_line(), progress(options))
    show(options, result, init_lines(result), findings=result.findings)
