"""FiLo equals the authors' code on the same random weights, and no longer when one thing is turned.

Both compute in float32: what is left is the order of sums, 1e-5 of the largest number.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="foundation backbones are timm's")
pytest.importorskip("open_clip", reason="text towers are OpenCLIP's")

import filo_authors as authors  # noqa: E402
from filo import DETAILS, THEIRS, build, difference, relative, small_towers  # noqa: E402, F401
from words_authors import draw_masks  # noqa: E402

from edgead_foundation.filo import network as filo_network  # noqa: E402
from edgead_foundation.filo import training as filo_training  # noqa: E402
from edgead_foundation.filo import words as filo_words  # noqa: E402
from edgead_foundation.filo.detector import Filo  # noqa: E402

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("filo")


@pytest.fixture(scope="module")
def built(files):
    return build(files)


@pytest.fixture
def method(built):
    """One to change; its text tower, which is large, stays the module's."""
    found = copy.copy(built)
    found.network = copy.deepcopy(found.network)
    return found


def test_maps_and_scores_are_those_of_the_authors_code(built):
    assert difference(built) <= TOLERANCE


@pytest.mark.parametrize("place", ["top right", "center"])
def test_words_of_one_place_are_those_of_the_authors_code(place, built, files):
    method = build(files, place=place)
    assert difference(method, place) <= TOLERANCE
    assert difference(method) > 3 * TOLERANCE and difference(built, place) > 3 * TOLERANCE
    assert len(method.network.anomalous.ends) == len(built.network.anomalous.ends) // 9


@pytest.mark.slow
def test_words_of_the_map_are_ours(files):
    assert difference(build(files, place="map")) > 3 * TOLERANCE


def quick_gelu(method):
    for block in method.network.tower.blocks:
        block.mlp.act = Quick()


class Quick(torch.nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


def quick_gelu_of_text(method):
    for block in method.network.words.blocks:
        block.mlp.gelu = Quick()


def patches_normalised(method):
    network, embed = method.network, method.network.embed

    def normalised(image):
        embedding, original, local = embed(image)
        return embedding, list(map(network.tower.norm, original)), network.tower.norm(local)

    network.embed = normalised


def no_adapter(method):
    method.network.adapt = lambda embedding: torch.nn.functional.normalize(embedding, dim=-1)


def unshifted(method):
    for context in (method.network.words.good, method.network.words.anomalous):
        context.second.weight.zero_()
        context.second.bias.zero_()


def contexts_swapped(method):
    words = method.network.words
    words.good, words.anomalous = words.anomalous, words.good


def no_mask(method):
    method.network.words.mask.zero_()


def decoders_swapped(method):
    network = method.network
    network.linear = torch.nn.ModuleList([network.linear[each] for each in (1, 0, 2, 3)])


TURNED = {
    "QuickGELU in the image tower": quick_gelu,
    "QuickGELU in the text tower": quick_gelu_of_text,
    "patches normalised": patches_normalised,
    "no adapter": no_adapter,
    "prompts that see no image": unshifted,
    "prompts swapped": contexts_swapped,
    "text that sees what comes later": no_mask,
    "decoders swapped": decoders_swapped,
}


@pytest.mark.parametrize("turn", TURNED.values(), ids=TURNED)
def test_one_thing_turned_in_the_network_is_seen(turn, method):
    with torch.no_grad():
        turn(method)
    assert difference(method) > 3 * TOLERANCE


TWO_PATHS = filo_network.two_paths


def as_each_block_leaves_them(tower, tokens, blocks, refined, beside):
    """What the paper describes: nothing is added to tokens that were kept."""
    depth = len(tower.blocks)
    kept = {number - 1 for number in blocks if number < depth}
    first, seconds = TWO_PATHS(tower, tokens, {*kept, depth}, refined)
    x, found = tower.norm_pre(tokens), []
    for number, block in enumerate(tower.blocks):
        x = block(x)
        if number + 1 in kept or number + 1 == depth:
            found += [x, seconds[len(found) // 2]]
    return first, found


def one_more(tower, tokens, blocks, refined, beside):
    return TWO_PATHS(tower, tokens, blocks, refined + 1, beside=beside)


def arithmetic(maps):
    return torch.nn.functional.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)


MODULES_TURNED = {
    "tokens as each block leaves them": (filo_network, "two_paths", as_each_block_leaves_them),
    "one refined block more": (filo_network, "two_paths", one_more),
    "texts of length 1": (filo_network, "SCALE", 100.0),
    "not blurred": (filo_network, "blurred", lambda maps: maps),
    "a plain mean of nine pixels": (filo_network, "blurred", arithmetic),
}


@pytest.mark.parametrize("turned", MODULES_TURNED)
def test_one_thing_turned_in_a_module_is_seen(turned, built, monkeypatch):
    monkeypatch.setattr(*MODULES_TURNED[turned])
    assert difference(built) > 3 * TOLERANCE


def test_maps_whose_corners_lie_otherwise_are_seen(built, monkeypatch):
    def otherwise(x, size, mode, align_corners):
        return torch.nn.functional.interpolate(x, size, mode=mode)

    functions = SimpleNamespace(**{**vars(torch.nn.functional), "interpolate": otherwise})
    monkeypatch.setattr(filo_network, "F", functions)
    assert difference(built) > 3 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["antialiased", "bilinear", "offset"])
def test_positions_resized_otherwise_are_seen(positions, files, monkeypatch):
    monkeypatch.setattr(Filo, "positions", positions)
    assert difference(build(files)) > 3 * TOLERANCE


WORDS_TURNED = {
    "another part": {"part": "pill"},
    "no details": {"details": ()},
    "other layers": {"layers": ("block6", "block8", "block9", "block10")},
}


@pytest.mark.slow
@pytest.mark.parametrize("turned", WORDS_TURNED)
def test_one_setting_turned_is_seen(turned, files):
    assert difference(build(files, **WORDS_TURNED[turned])) > 3 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("states", ["GOOD", "ANOMALOUS"])
def test_other_states_are_seen(states, files, monkeypatch):
    monkeypatch.setattr(filo_words, states, getattr(filo_words, states)[1:])
    assert difference(build(files)) > 3 * TOLERANCE


@pytest.fixture
def learner(files):
    """What learns, of what the fixture was learnt from; and its products."""
    method = build(files, prompts=None, auxiliary=("other",))
    load(method.network, files)
    assert method.text is not None
    products = [
        filo_training.Product(None, *method.sentences(method.text, part, details, filo_words.PLACES))
        for part, details in DETAILS.items()
    ]
    return method, products


def load(network, files):
    from edgead_foundation.filo.files import load_learnt

    load_learnt(network, files / "filo_train_on_mvtec.pth")


def batch(number):
    chosen = slice(number, number + 1)
    images, masks = (
        torch.from_numpy(authors.draw_images())[chosen],
        torch.from_numpy(draw_masks(authors.LARGER))[chosen],
    )
    return images, masks, torch.tensor([number])


def test_all_is_learnt_as_the_authors_code_learns_it(learner):
    method, products = learner
    network, losses = method.network, {"losses": [], "adapter_losses": []}
    main = filo_training.main_stage(network, 1e-3, 1e-4, 1)
    for name, stage, steps in (
        ("losses", main, authors.STEPS),
        ("adapter_losses", filo_training.adapter_stage(network, 1e-5, 1), authors.ADAPTER_STEPS),
    ):
        for part, _ in stage.rates:
            part.requires_grad_(True)
        optimizer = filo_training.optimizer_of(stage)
        for step in range(steps):
            number = step % authors.IMAGES
            images, masks, labels = batch(number)
            if stage is main:
                loss = filo_training.map_loss(network, products[number], images, masks)
            else:
                loss = filo_training.adapter_loss(network, products[number], images, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(loss.item())
    for name, found in losses.items():
        assert relative(found, THEIRS[name]) <= 3 * TOLERANCE
    network.merge()
    with torch.no_grad():
        maps, _ = network(torch.from_numpy(authors.draw_images()))
    # AdamW divides by the size of gradients: where they are near 0, the order of sums shows.
    assert relative(maps[:, :: authors.STRIDE, :: authors.STRIDE], THEIRS["learnt_maps"]) <= 10 * TOLERANCE


def of_images(share, masks):
    """Dice of whole images, and not of their rows."""
    side = authors.LARGER
    return DICE(share.reshape(-1, side * side), masks.reshape(-1, side * side))


DICE, FOCAL = filo_training.dice_loss, filo_training.focal_loss
LOSSES_TURNED = {
    "Dice of images": ("dice_loss", of_images),
    "focal loss of the good text": ("focal_loss", lambda shares, masks: FOCAL(shares.flip(1), masks)),
}


@pytest.mark.slow
@pytest.mark.parametrize("turned", LOSSES_TURNED)
def test_one_thing_turned_in_the_loss_is_seen(turned, learner, monkeypatch):
    (method, products), (images, masks, _) = learner, batch(0)
    with torch.no_grad():
        loss = filo_training.map_loss(method.network, products[0], images, masks)
        monkeypatch.setattr(filo_training, *LOSSES_TURNED[turned])
        turned_loss = filo_training.map_loss(method.network, products[0], images, masks)
    assert abs(loss / THEIRS["losses"][0] - 1) <= TOLERANCE < 3 * TOLERANCE < abs(turned_loss / loss - 1)
