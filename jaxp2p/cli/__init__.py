"""The command line. Nothing here imports jax, pandas or matplotlib before a command needs them."""

from jaxp2p.cli.app import app, main

__all__ = ["app", "main"]
