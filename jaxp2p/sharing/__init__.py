"""Sharing keys of the law: how a community's feed-in of an interval is allotted to its consumers, in Wh.

A `Key` (`key`) says how much of every interval's generation each member is allotted; `allot` makes whole
watt-hours of it and keeps the laws that all keys share. Keys: `pot` (by consumption), `shares` (set in
advance), `pairs` (per producer and consumer, and from a market), `several` (a meter in several communities);
`catalogue` has them by name, with presets for the rules of countries. Arithmetic only: no promise that a
result conforms to the law of a country.

Pure NumPy and pandas on the host; nothing is imported with this package, so that `--help` is quick.
"""
