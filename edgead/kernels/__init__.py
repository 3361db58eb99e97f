"""Kernels of the frame loop and of training: nearest patches, smoothing of maps, shrinking of images, coreset.

Each runs on a backend, chosen when an object is made: "cpu" is native code at the widest instruction set
level of this machine (or the one that EDGEAD_ISA names), "cpu:avx2" that level, "numpy" the same function
without native code, "cuda" the GPU. For arrays that are already on the GPU see `edgead.kernels.cuda`.
"""

from edgead.kernels.backend import available_isas, backends, gains_by_int8, isa, multiplies_int8, set_threads, threads
from edgead.kernels.coreset import extend_coreset, greedy_coreset
from edgead.kernels.grouped import GroupedPatches
from edgead.kernels.images import shrink
from edgead.kernels.maps import Smoother, gaussian_blur, smooth
from edgead.kernels.nearest import NearestPatches
from edgead.kernels.window_search import WindowSearch

__all__ = [
    "GroupedPatches",
    "NearestPatches",
    "Smoother",
    "WindowSearch",
    "available_isas",
    "backends",
    "extend_coreset",
    "gaussian_blur",
    "greedy_coreset",
    "isa",
    "gains_by_int8",
    "multiplies_int8",
    "set_threads",
    "shrink",
    "smooth",
    "threads",
]
