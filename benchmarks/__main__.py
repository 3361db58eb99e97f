"""Run one benchmark by name."""

from __future__ import annotations

import importlib
import os
import sys

# Each is a module of this package with `main(arguments)`, imported only when it is asked for: they need
# different extras.
BENCHMARKS = (
    "batches",
    "blind",
    "by_layer",
    "cross",
    "cuda",
    "cycle",
    "damping",
    "defaults",
    "detectors",
    "drift",
    "fader",
    "few",
    "few_shot",
    "first_verdict",
    "fleet",
    "golden",
    "gpu_batch",
    "gpu_first_hour",
    "gpu_networks",
    "gpu_search",
    "kernels",
    "kinds",
    "kinds_ncd",
    "known_defects",
    "large_images",
    "layers",
    "line_scan",
    "packaged_backbones",
    "page_clients",
    "panel",
    "panel_int8",
    "ped2",
    "guarantee",
    "highest",
    "imported",
    "push",
    "rates",
    "realtime",
    "relief",
    "screen",
    "situations",
    "lsfa",
    "mutate",
    "soak",
    "standalone",
    "startup",
    "stereo",
    "teach",
    "unknown_kind",
    "vane",
    "volumes",
)

# They make NumPy's OpenBLAS take another core's kernels or cache size than this machine's, usually slower ones.
# It reads them when NumPy is loaded, so this comes before any import of it.
SLOW_BLAS_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def main(arguments: list[str]) -> None:
    """Take the benchmark's name off `arguments` and run it with the rest."""
    if not arguments or arguments[0] not in BENCHMARKS:
        sys.exit(f"usage: python -m benchmarks {'|'.join(BENCHMARKS)} ...")
    for name in SLOW_BLAS_VARIABLES:
        os.environ.pop(name, None)
    importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
