"""What caching, reading and records cost: ours, the bare limit and the peer, side by side (docs/benchmarks.md).

Each benchmark is one command, `python -m benchmarks.NAME`, and writes one JSON line per measurement. What is measured
runs in a process of its own: the programs in `ours`, `bare` and `peer`. The peer's run in the peer's environment, where
this library is not installed; so they, and the files they use (`measured`, `child`, `machine`, `workload`), import
nothing of ours.
"""
