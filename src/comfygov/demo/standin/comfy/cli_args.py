"""The command line of the stand-in: the flags of ComfyUI that matter to its callers."""

import argparse
import os
from pathlib import Path

from comfy import options

DEFAULT_DATABASE = Path(__file__).resolve().parent.parent / "user" / "comfyui.db"


def readable_directory(text: str) -> str:
    """Accept a directory that exists and may be read, else complain the way argparse likes."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"The path '{text}' does not exist.")
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is not a directory.")
    if not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(f"You do not have read permissions for '{text}'.")
    return text


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listen", default="127.0.0.1", metavar="IP", nargs="?", const="0.0.0.0,::")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--enable-cors-header", default=None, metavar="ORIGIN", nargs="?", const="*")
    parser.add_argument("--max-upload-size", type=float, default=100)
    parser.add_argument("--auto-launch", action="store_true")
    parser.add_argument("--disable-auto-launch", action="store_true")
    parser.add_argument("--dont-print-server", action="store_true")


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-directory", default=None)
    parser.add_argument("--input-directory", default=None)
    parser.add_argument("--output-directory", default=None)
    parser.add_argument("--temp-directory", default=None)
    parser.add_argument("--user-directory", type=readable_directory, default=None)
    parser.add_argument("--database-url", default=f"sqlite:///{DEFAULT_DATABASE}")
    parser.add_argument("--extra-model-paths-config", metavar="PATH", nargs="+", action="append", default=None)


def _add_nodes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--disable-all-custom-nodes", action="store_true")
    parser.add_argument("--whitelist-custom-nodes", nargs="+", default=[])
    parser.add_argument("--disable-api-nodes", action="store_true")
    parser.add_argument("--quick-test-for-ci", action="store_true")
    parser.add_argument("--disable-metadata", action="store_true")
    parser.add_argument("--multi-user", action="store_true")


def _add_running(parser: argparse.ArgumentParser) -> None:
    memory = parser.add_mutually_exclusive_group()
    for name in ("--gpu-only", "--highvram", "--normalvram", "--lowvram", "--novram", "--cpu"):
        memory.add_argument(name, action="store_true")
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument("--cache-classic", action="store_true")
    cache.add_argument("--cache-lru", type=int, default=0)
    cache.add_argument("--cache-none", action="store_true")
    parser.add_argument("--deterministic", action="store_true")
    levels = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    parser.add_argument("--verbose", default="INFO", const="DEBUG", nargs="?", choices=levels)
    parser.add_argument("--log-stdout", action="store_true")


def build_parser() -> argparse.ArgumentParser:
    """Put the parser together."""
    parser = argparse.ArgumentParser(description="A stand-in for ComfyUI (not ComfyUI).")
    for add in (_add_network, _add_folders, _add_nodes, _add_running):
        add(parser)
    return parser


parser = build_parser()
args = parser.parse_args() if options.args_parsing else parser.parse_args([])
if args.disable_auto_launch:
    args.auto_launch = False
