"""Run one benchmark by name."""

from __future__ import annotations

import sys

from benchmarks import cuda, defaults

BENCHMARKS = {"cuda": cuda.main, "defaults": defaults.main}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        sys.exit(f"usage: python -m benchmarks {'|'.join(BENCHMARKS)} ...")
    BENCHMARKS[sys.argv[1]](sys.argv[2:])
