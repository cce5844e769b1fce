"""Grids of other tools: a reader per format gives `parts.Grid`, `radial` makes a tree of it, `community` a
community."""
