"""Exact nearest-patch searches: edgead's and what a user could pick instead, prepared for one bank and one k.

Each prepared search takes queries float32 (n, d) and gives (values, index), both (n, k). Values are what the
library gives (squared or not); only edgead's are compared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import faiss
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.machine import open_session
from benchmarks.results import FP32, OURS
from edgead.kernels import NearestPatches

Array = npt.NDArray[np.float32]
Search = Callable[[Array], tuple[np.ndarray, np.ndarray]]


def has_fp32_switch() -> bool:
    """Whether edgead's pre-scan can be switched off, which leaves its fused fp32 kernel."""
    return "prescan" in inspect.signature(NearestPatches).parameters


def our_searches(bank: Array, k: int) -> dict[str, Search]:
    """edgead's search, and its fp32 kernel alone where that can be had."""
    found = {OURS: _edgead(NearestPatches(bank), k)}
    if has_fp32_switch():
        found[FP32] = _edgead(NearestPatches(bank, prescan=False), k)
    return found


def other_searches(bank: Array, k: int, threads: int) -> dict[str, Search]:
    """The libraries' exact searches."""
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    return {
        "faiss": lambda queries: index.search(queries, k),
        "faiss BLAS": lambda queries: with_blas(index, queries, k),
        "torch": _torch(bank, k),
        "ONNX Runtime": _onnxruntime(bank, k, threads),
        "numpy": _numpy(bank, k),
    }


def _edgead(index: NearestPatches, k: int) -> Search:
    return lambda queries: index.search(queries, k)


def with_blas(index: faiss.IndexFlatL2, queries: Array, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Search by matrix products, which faiss takes by itself for more work alone."""
    with _blas_threshold(0):
        return index.search(queries, k)


@contextmanager
def _blas_threshold(value: int) -> Iterator[None]:
    """From this many queries (before faiss 1.15), or queries times dimensions, faiss takes matrix products."""
    default = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = value
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = default


def _torch(bank: Array, k: int) -> Search:
    rows = torch.from_numpy(bank)
    norms = rows.square().sum(dim=1)

    def search(queries: Array) -> tuple[np.ndarray, np.ndarray]:
        squared = torch.addmm(norms, torch.from_numpy(queries), rows.T, alpha=-2)
        if k == 1:
            values, index = squared.min(dim=1, keepdim=True)
        else:
            values, index = squared.topk(k, dim=1, largest=False)
        return values.numpy(), index.numpy()

    return search


def _numpy(bank: Array, k: int) -> Search:
    norms = (bank**2).sum(axis=1)
    columns = np.ascontiguousarray(-2 * bank.T)

    def search(queries: Array) -> tuple[np.ndarray, np.ndarray]:
        squared = queries @ columns
        squared += norms
        if k == 1:
            index = squared.argmin(axis=1)[:, None]
            return np.take_along_axis(squared, index, axis=1), index
        index = np.argpartition(squared, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(squared, index, axis=1)
        order = values.argsort(axis=1)
        return np.take_along_axis(values, order, axis=1), np.take_along_axis(index, order, axis=1)

    return search


def _onnxruntime(bank: Array, k: int, threads: int) -> Search:
    """The search as a detector's exported graph holds it."""
    from onnx import TensorProto, helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.ascontiguousarray(2 * bank.T), "bank"),
        numpy_helper.from_array((bank**2).sum(axis=1), "norms"),
    ]
    nodes = [
        helper.make_node("MatMul", ["queries", "bank"], ["products"]),
        helper.make_node("Sub", ["norms", "products"], ["squared"]),
    ]
    if k == 1:
        nodes.append(helper.make_node("ArgMin", ["squared"], ["index"], axis=1, keepdims=1))
        nodes.append(helper.make_node("ReduceMin", ["squared"], ["values"], axes=[1], keepdims=1))
    else:
        constants.append(numpy_helper.from_array(np.array([k]), "k"))
        nodes.append(helper.make_node("TopK", ["squared", "k"], ["values", "index"], axis=1, largest=0))
    graph = helper.make_graph(
        nodes,
        "nearest",
        [helper.make_tensor_value_info("queries", TensorProto.FLOAT, ["n", bank.shape[1]])],
        [
            helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", k]),
            helper.make_tensor_value_info("index", TensorProto.INT64, ["n", k]),
        ],
        constants,
    )
    session = open_session(graph, threads)
    return lambda queries: tuple(session.run(None, {"queries": queries}))
