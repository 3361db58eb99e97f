"""Variants of the products: each finds what the plain kernel does, and one that does not is given up.

test_cuda_build.py runs these on an emulated GPU, which can be several cards.
"""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from backends import needs_cuda
from emulated_driver import emulated_driver
from test_cuda import code, needs_code

from edgead import kernels

KIB = 1 << 10
# Capability, multiprocessors, shared memory of one: RTX 3060, AGX Orin, RTX 4090, A100, H100.
CARDS = {
    "RTX 3060": (86, 28, 100 * KIB),
    "AGX Orin": (87, 16, 164 * KIB),
    "RTX 4090": (89, 128, 100 * KIB),
    "A100": (80, 108, 164 * KIB),
    "H100": (90, 132, 228 * KIB),
}
OTHERS = [name for name in code.variants() if name != "plain"] if code else ["walking"]


@pytest.fixture
def rng():
    return np.random.default_rng(25)


CARD = {"capability": 86, "multiprocessors": 4, "faults": 0, "ended": 0, "allocations": -1}


@pytest.fixture
def emulator():
    """The emulated driver, which counts and has faults."""
    library = emulated_driver()
    yield library
    for name, value in CARD.items():
        library.emulator_set(name.encode(), value)


@pytest.fixture
def become(request):
    """Make the emulated GPU another card, by what is in CARD; a real card stays what it is."""
    try:
        library = request.getfixturevalue("emulator")
    except pytest.skip.Exception:
        return lambda **_: None
    return lambda **card: [library.emulator_set(name.encode(), value) for name, value in card.items()]


def check(variant, bank, features, k):
    """Distances and rows are those of plain products, bit by bit."""
    distance, index = code.NearestIndex(bank, variant=variant).search(features, k)
    expected = code.NearestIndex(bank, variant="plain").search(features, k)
    np.testing.assert_array_equal(index, expected[1])
    np.testing.assert_array_equal(distance.view(np.uint32), expected[0].view(np.uint32))


@needs_cuda
@pytest.mark.parametrize("variant", OTHERS)
@pytest.mark.parametrize(
    ("m", "n", "d", "k"),
    [
        (300, 16, 33, 1), (300, 50, 48, 2), (129, 127, 64, 1), (260, 130, 96, 1), (200, 190, 100, 3),
        (129, 200, 152, 1), (500, 256, 40, 16),
    ],
)  # fmt: skip
def test_a_variant_finds_what_plain_products_do(rng, variant, m, n, d, k):
    bank, features = (rng.standard_normal((count, d), dtype=np.float32) for count in (m, n))
    check(variant, bank, features, k)


@needs_cuda
@pytest.mark.parametrize("variant", OTHERS)
@pytest.mark.parametrize(
    ("capability", "multiprocessors", "rows", "d"),
    [(86, 1, 128 * 17 - 3, 34), (90, 1, 128 * 6 + 1, 34), (87, 2, 128 * 4, 34), (86, 1, 128 * 8, 132)],
)
def test_every_row_of_a_bank_is_found(rng, become, variant, capability, multiprocessors, rows, d):
    """Also where few multiprocessors have many tiles each, and groups of several of them."""
    become(capability=capability, multiprocessors=multiprocessors)
    bank = rng.standard_normal((rows, d), dtype=np.float32)
    index = code.NearestIndex(bank, variant=variant)
    shuffled = rng.permutation(rows)[: 128 * 3 + 20]
    features = bank[shuffled] + np.float32(1e-3) * rng.standard_normal((len(shuffled), d), dtype=np.float32)
    np.testing.assert_array_equal(index.search(features, 1)[1][:, 0], shuffled)
    check(variant, bank, features[:200], 5)


@needs_cuda
@pytest.mark.parametrize("variant", OTHERS)
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("noise", [1e-5, 2e-3])  # halves are equal; they differ, and err by more than rows are apart
@pytest.mark.parametrize("rows", [(2, 2 + 128, 2 + 3 * 128), (2, 3), (258, 388)])
def test_rows_that_halves_cannot_tell_apart(rng, become, variant, k, rows, noise):
    become(multiprocessors=1)
    bank = np.float32(0.01) * rng.standard_normal((128 * 16, 40), dtype=np.float32)
    one = rng.standard_normal(40, dtype=np.float32)
    bank[list(rows)] = one + np.float32(noise) * rng.standard_normal((len(rows), 40), dtype=np.float32)
    features = one + np.float32(noise) * rng.standard_normal((30, 40), dtype=np.float32)
    check(variant, bank, features, k)


@needs_cuda
@pytest.mark.parametrize("variant", OTHERS)
def test_queries_that_products_say_nothing_of(rng, variant):
    bank, features = rng.standard_normal((2, 300, 40), dtype=np.float32)
    features[[3, 200]] = 1e30
    check(variant, bank, features, 2)
    features[[5, 140], 7] = np.nan
    with pytest.raises(ValueError, match="NaN or Inf in row 5"):
        code.NearestIndex(bank, variant=variant).search(features, 1)


@needs_cuda
@pytest.mark.parametrize(
    ("variant", "rows", "faults", "problem"),
    [
        ("walking", 300, 1, r"walking: \d+ scores are farther from"),
        ("walking", 300, 2, "walking: CUDA: asking for shared"),
        ("walking", 300, 3, r"walking: \d+ scores"),
        ("int8", 2048, 1, r"int8: \d+ scores are farther from .*; walking: \d+ scores"),
    ],
)
def test_a_variant_that_does_not_work_is_given_up(rng, emulator, become, caplog, variant, rows, faults, problem):
    bank, features = (rng.standard_normal((count, 40), dtype=np.float32) for count in (rows, 20))
    assert code.NearestIndex(bank).variant == variant and not caplog.text
    become(faults=faults)
    with caplog.at_level(logging.WARNING):
        index = code.NearestIndex(bank)
    assert index.variant == "plain"
    assert caplog.messages[0].startswith("a faster way to the nearest patches does not work on this GPU")
    assert re.search(problem, caplog.text)
    expected = kernels.NearestPatches(bank, backend="numpy").search(features, 2)
    np.testing.assert_array_equal(index.search(features, 2)[1], expected[1])


@needs_cuda
def test_too_little_memory_is_not_a_variant_that_does_not_work(rng, emulator, become, caplog):
    bank = rng.standard_normal((300, 40), dtype=np.float32)
    emulator.emulator_count(b"allocations")
    code.NearestIndex(bank)
    for left in range(emulator.emulator_count(b"allocations")):
        become(allocations=left)
        with pytest.raises(RuntimeError, match="too little free memory"):
            code.NearestIndex(bank)
    become(allocations=-1)
    assert code.NearestIndex(bank).variant == "walking" and not caplog.text


@needs_cuda
def test_the_check_of_walking_products_has_the_bank_once(rng, emulator):
    bank = rng.standard_normal((300, 40), dtype=np.float32)
    emulator.emulator_count(b"allocations")
    code.NearestIndex(bank, variant="walking")
    unchecked = emulator.emulator_count(b"allocations")
    assert code.NearestIndex(bank).variant == "walking"
    assert emulator.emulator_count(b"allocations") == unchecked + 5  # queries, as they are and prepared; scores; counts


@needs_cuda
def test_a_variant_that_ends_the_context_is_named(rng, emulator, become):
    become(faults=4)
    with pytest.raises(RuntimeError, match="allocating memory .*IllegalAddress.*; given up before: walking: .*shared"):
        code.NearestIndex(rng.standard_normal((300, 40), dtype=np.float32))


def marked(score, slot, digits):
    bits = np.float32(score).view(np.uint32) & ~np.uint32((1 << digits) - 1) | np.uint32(slot)
    return bits.view(np.float32)


@needs_cuda
def test_what_contradicts_plain_scores(rng):
    """One query, two tiles of a bank, groups of both tiles: what is said of group 3, whose rows plain ones know."""
    plain = np.full((1, 16, 2), 9, np.float32)
    plain[0, 3] = marked(1, 5, 4), 2  # the smallest in slot 5 of the first tile, the second smallest of that tile
    plain[0, 3 + 8] = marked(1.5, 6, 4), 4
    one, far = np.ones(1, np.float32), np.full(1, np.inf, np.float32)
    nan = np.full(1, np.nan, np.float32)

    def found(x, slot, y, norms=one, plain_norms=one, rows=256):
        minima = np.full((1, 8, 2), 9, np.float32)
        minima[0, 3] = marked(x, slot, 5), y
        return code.contradictions(minima, 2, plain, rows, norms, plain_norms, 1.0, 64)

    off = 2 * code.score_error(64, (1, 0), (1, 0))
    assert off < 1e-4
    assert found(1, 5, 1.5) == 0
    assert found(1 + off / 2, 5, 1.5) == found(1 - off / 2, 5, 1.5) == found(1, 5, 0.5) == 0
    assert found(1.01, 5, 1.5) == found(0.99, 5, 1.5) == 1  # no row has that score
    assert found(1, 5, 1.6) == 1  # the second tile's
    plain[0, 3, 1] = 1.25
    assert found(1, 5, 1.5) == 1 and found(1, 5, 1.25) == 0  # the first tile's second
    assert found(1, 4, 1) == 1  # a slot whose row is not the smallest
    assert found(1, 16 + 6, 1) == 1
    plain[0, 3, 1] = 1
    assert found(1, 4, 1) == 0  # a row that is as near
    assert found(1, 4, 1.2) == 1
    assert found(np.nan, 5, 1) == found(1, 5, np.nan) == found(1, 5, np.inf) == 1
    assert found(7, 5, 7, norms=far) == found(7, 5, 7, plain_norms=far) == 0  # scores say nothing
    assert found(1, 5, 1, norms=nan) == found(1, 5, 1, plain_norms=nan) == 8
    assert found(7, 5, 7, nan, nan) == 0
    plain[0, 3 + 8 :] = 3e38
    assert found(1, 16 + 6, 1, rows=128) == 1  # a row of padding
    assert found(1, 4, 1, rows=0) == 0  # of padding alone, plain scores know nothing


@needs_cuda
def test_kernels_begin_early_where_the_card_can(rng, emulator, become):
    bank, features = rng.standard_normal((2, 130, 40), dtype=np.float32)
    for capability, early in ((86, 0), (90, 2), (120, 2)):
        become(capability=capability)
        index = code.NearestIndex(bank, variant="walking")
        emulator.emulator_count(b"early")
        index.search(features, 1)
        assert emulator.emulator_count(b"early") == early
        code.NearestIndex(bank, variant="plain").search(features, 1)
        assert emulator.emulator_count(b"early") == 0
        code.NearestIndex(bank)  # checks four times
        assert emulator.emulator_count(b"early") == 4 * early


@needs_cuda
@pytest.mark.parametrize("capability", [80, 86, 90])
@pytest.mark.parametrize("widths", [(200, 40), (40, 200)])
def test_indexes_of_other_widths_leave_each_other_their_memory(rng, become, capability, widths):
    become(capability=capability)
    banks = [rng.standard_normal((300, d), dtype=np.float32) for d in widths]
    indexes = [code.NearestIndex(bank, variant="walking") for bank in banks]
    for bank, index in zip(banks, indexes, strict=True):
        np.testing.assert_array_equal(index.search(bank[:20], 1)[1][:, 0], np.arange(20))


@needs_cuda
def test_variants_by_name():
    bank = np.ones((3, 40), np.float32)
    assert code.NearestIndex(bank, variant="plain").variant == "plain" == code.variants()[-1]
    with pytest.raises(ValueError, match="no variant of the products is named other and suits"):
        code.NearestIndex(bank, variant="other")
    with pytest.raises(ValueError, match="no variant of the products is named walking and suits"):
        code.NearestIndex(bank[:, :32].copy(), variant="walking")  # dimensions of one step


@needs_code
def test_walks():
    """What the performance model rests on: tiles that blocks walk, queries that stay, memory for two blocks."""
    walks = {
        (card, d, k): code.walk(*CARDS[card], queries=784, rows=10_000, d=d, k=k)
        for card in CARDS for d in (33, 168, 384, 1536) for k in (1, 9)
    }  # fmt: skip
    for (card, d, k), walk in walks.items():
        assert walk["shared_bytes"] <= CARDS[card][2] // 2 - KIB
        assert walk["query_places"] in (walk["stages"], -(-d // 32))
        assert walk["tiles"] <= (4 if k == 1 else 1)
        assert walk["trimmed_groups"] == 2 * walk["groups"]
    h100 = walks["H100", 384, 1]
    assert (h100["stages"], h100["query_places"], h100["tiles"], h100["groups"]) == (2, 12, 2, 1)
    assert walks["H100", 384, 9]["groups"] == 2
    orin = walks["AGX Orin", 168, 1]
    assert (orin["stages"], orin["query_places"]) == (3, 6)
    assert walks["AGX Orin", 384, 1]["query_places"] == 3
    assert not code.walk(86, 28, 100 * KIB, 784, 10_000, 32, 1)
    assert not code.walk(86, 28, 96 * KIB, 784, 10_000, 384, 1)
