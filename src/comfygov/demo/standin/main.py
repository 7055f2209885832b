# ruff: noqa: E402 - the order of imports is part of what is played: flags, prestartup scripts, then the rest
"""A stand-in for ComfyUI: the same flags, routes, events and log lines, with the standard library alone.

This is not ComfyUI. It exists so that tests and demos start fast and need neither torch nor a GPU.
"""

from __future__ import annotations

from comfy import options

options.enable_args_parsing()

import itertools
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import folder_paths
from app.logger import setup_logger
from comfy.cli_args import args
from utils.extra_config import load_extra_path_config
from utils.prestartup import run_prestartup_scripts

log = logging.getLogger("comfyui")
HERE = Path(__file__).resolve().parent
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["DO_NOT_TRACK"] = "1"


def _set_directory(name: str, value: str | None) -> None:
    if value:
        path = str(Path(value).absolute())
        log.info("Setting %s directory to: %s", name, path)
        getattr(folder_paths, f"set_{name}_directory")(path)


def apply_custom_paths() -> None:
    """Read the extra model paths and the directory flags."""
    if (HERE / "extra_model_paths.yaml").is_file():
        load_extra_path_config(str(HERE / "extra_model_paths.yaml"))
    for path in itertools.chain(*(args.extra_model_paths_config or [])):
        load_extra_path_config(path)
    _set_directory("output", args.output_directory)
    for kind in ("checkpoints", "clip", "vae", "diffusion_models", "loras"):
        folder_paths.add_model_folder_path(kind, str(Path(folder_paths.get_output_directory(), kind)))
    _set_directory("input", args.input_directory)
    _set_directory("user", args.user_directory)


setup_logger(args.verbose, args.log_stdout)
apply_custom_paths()
run_prestartup_scripts()

import comfyui_version
import execution
import server
from app.database import setup_database
from app.http import listen
from app.node_loading import load_all
from comfy.utils import set_progress_bar_global_hook


def cleanup_temp() -> None:
    """Delete the temp directory, as at every start and end."""
    shutil.rmtree(folder_paths.get_temp_directory(), ignore_errors=True)


def work_once(executor: execution.PromptExecutor, prompts: server.PromptServer) -> None:
    """Wait for a prompt or a flag and deal with it."""
    taken = prompts.prompt_queue.get(timeout=1000)
    if taken is not None:
        (_, prompt_id, prompt, extra_data, outputs), number = taken
        start = time.perf_counter()
        prompts.last_prompt_id = prompt_id
        executor.execute(prompt, prompt_id, extra_data, outputs)
        done = {"status_str": "success" if executor.success else "error", "completed": executor.success}
        status = {**done, "messages": executor.status_messages}
        prompts.prompt_queue.task_done(number, executor.history_result, status)
        if prompts.client_id is not None:
            prompts.send_sync("executing", {"node": None, "prompt_id": prompt_id}, prompts.client_id)
        log.info("Prompt executed in %.2f seconds", time.perf_counter() - start)
    if prompts.prompt_queue.get_flags().get("free_memory"):
        executor.reset()


def prompt_worker(prompts: server.PromptServer) -> None:
    """The thread that runs prompts."""
    executor = execution.PromptExecutor(prompts, use_cache=not args.cache_none)

    def progress(value: float, total: float, _: Any, node_id: str | None = None) -> None:  # noqa: ANN401
        execution.nodes.before_node_execution()
        node = node_id or prompts.last_node_id or ""
        executor.report(node, value, total)
        data = {"value": value, "max": total, "prompt_id": prompts.last_prompt_id, "node": node}
        prompts.send_sync("progress", data, prompts.client_id)

    set_progress_bar_global_hook(progress)
    while True:
        work_once(executor, prompts)


def prepare() -> server.PromptServer:
    """Everything between the flags and the listening socket."""
    if args.temp_directory:
        _set_directory("temp", str(Path(args.temp_directory, "temp")))
    cleanup_temp()
    Path(folder_paths.get_user_directory()).mkdir(parents=True, exist_ok=True)
    prompts = server.PromptServer()
    load_all()
    setup_database()
    threading.Thread(target=prompt_worker, args=(prompts,), daemon=True).start()
    if args.quick_test_for_ci:
        sys.exit(0)
    Path(folder_paths.get_temp_directory()).mkdir(parents=True, exist_ok=True)
    return prompts


def open_browser(address: str, port: int) -> None:
    """Do what --auto-launch asks for."""
    import webbrowser

    webbrowser.open(f"http://{address}:{port}")


def serve(prompts: server.PromptServer) -> None:
    """Listen on every address and wait."""
    log.info("Starting server\n")
    for address in args.listen.split(","):
        web = listen(address, args.port, prompts.handler())
        threading.Thread(target=web.serve_forever, daemon=True).start()
        shown = f"[{address}]" if ":" in address else address
        log.info("To see the GUI go to: http://%s:%s", shown, web.server_address[1])
    if args.auto_launch:
        open_browser(args.listen.split(",")[0], args.port)
    threading.Event().wait()


def main() -> None:
    """Start, serve, and say goodbye when interrupted."""
    log.info("Python version: %s", sys.version)
    log.info("ComfyUI version: %s", comfyui_version.__version__)
    prompts = prepare()
    try:
        serve(prompts)
    except KeyboardInterrupt:
        log.info("\nStopped server")
    cleanup_temp()


if __name__ == "__main__":
    main()
