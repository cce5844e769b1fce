"""What a user can choose, declared once: frozen dataclasses of plain values, for library and command line.

Nothing here imports jax, pandas or another room, so that `--help` is quick.
"""
