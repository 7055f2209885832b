"""The version of ComfyUI whose conventions this stand-in follows."""

__version__ = "0.3.64"
