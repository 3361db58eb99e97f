"""SeaS and AnoGen on a Stable Diffusion so small that it learns and samples here; of what they make, the form alone."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("diffusers", reason="DIFFUSION NOT TESTED: pip install ./plugins/edgead-diffusion")
pytest.importorskip("transformers", reason="DIFFUSION NOT TESTED: pip install ./plugins/edgead-diffusion")

from small_diffusion import SIDE, write_model  # noqa: E402

from edgead.errors import SettingsError  # noqa: E402
from edgead_diffusion import anogen, seas, seas_prompts  # noqa: E402
from edgead_diffusion.anogen import AnogenPlan  # noqa: E402
from edgead_diffusion.examples import Examples  # noqa: E402
from edgead_diffusion.seas import SeasPlan  # noqa: E402
from edgead_diffusion.stable_diffusion import StableDiffusion, open_stable_diffusion  # noqa: E402

# Of diffusers with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
PLAN = SeasPlan(steps=1, accumulation=1, sampling_steps=4, unet_rate=1e-3, words_rate=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "model"
    write_model(path)
    return path


@pytest.fixture
def model(folder) -> StableDiffusion:
    return open_stable_diffusion(folder, device="cpu", force=True)


@pytest.fixture(scope="module")
def examples() -> Examples:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (70, 90, 3)).astype(np.uint8) for _ in range(5)]
    masks = [np.zeros((70, 90), np.uint8) for _ in range(3)]
    for mask in masks:
        mask[20:50, 30:60] = 1
    return Examples(images[:3], masks, [0, 1, 1], images[3:])


def weights(*networks) -> dict[str, torch.Tensor]:
    return {
        f"{number}.{name}": value.clone()
        for number, network in enumerate(networks)
        for name, value in network.state_dict().items()
    }


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


@pytest.mark.slow
def test_seas_learns_and_makes_defects_with_their_masks(model, examples, tmp_path):
    known = model.text_encoder.get_input_embeddings().weight.clone()
    before = weights(model.unet, model.vae)
    seas.fine_tune(model, examples, PLAN)
    assert {name[0] for name in changed(before, weights(model.unet, model.vae))} == {"0"}
    embeddings = model.text_encoder.get_input_embeddings().weight
    assert embeddings.shape == (len(known) + 1 + 2 * seas_prompts.WORDS, 16)
    assert not any(p.requires_grad for p in (*model.unet.parameters(), *model.text_encoder.parameters()))

    trained = weights(model.unet, model.vae, model.text_encoder)
    predictor = seas.train_masks(model, examples, PLAN)
    assert not changed(trained, weights(model.unet, model.vae, model.text_encoder))
    made = [seas.make_defects(model, predictor, examples.good, 1, PLAN) for _ in range(2)]
    for (image, mask), (again, same_mask) in zip(*made, strict=True):
        assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8
        assert mask.shape == (SIDE, SIDE) and set(np.unique(mask)) <= {0, 255}
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(mask, same_mask)
    other = seas.make_defects(model, predictor, examples.good, 0, PLAN)
    assert not np.array_equal(other[0][0], made[0][0][0])


def test_words_of_seas_begin_as_known_ones(model):
    seas_prompts.add_words(model.tokenizer, model.text_encoder, 2)
    embeddings = model.text_encoder.get_input_embeddings().weight
    token = {word: model.tokenizer.convert_tokens_to_ids(word) for word in ("object</w>", "defect</w>", "ob1", "sks8")}
    torch.testing.assert_close(embeddings[token["ob1"]], embeddings[token["object</w>"]], rtol=0, atol=0)
    torch.testing.assert_close(embeddings[token["sks8"]], embeddings[token["defect</w>"]], rtol=0, atol=0)
    tokens = model.tokenizer.convert_ids_to_tokens(model.tokenizer(seas_prompts.defect_prompt(1)).input_ids)
    assert tokens[seas_prompts.ANOMALOUS] == ["sks5", "sks6", "sks7", "sks8"]
    assert seas_prompts.good_prompt() == "a ob1"
    with pytest.raises(SettingsError, match="knows ob1 or sks1 already"):
        seas_prompts.add_words(model.tokenizer, model.text_encoder, 2)


def test_anogen_learns_one_word_and_blends_it_into_a_box(model, examples, tmp_path):
    one = Examples(examples.defects, examples.masks, [0, 0, 0])
    before = weights(model.unet, model.vae, model.text_encoder)
    plan = AnogenPlan(steps=2, batch_size=2, sampling_steps=4)
    word = anogen.learn_word(model, one, plan)
    assert not changed(before, weights(model.unet, model.vae, model.text_encoder))
    begins_as = anogen.WordVector(model).vector
    assert not torch.equal(word.vector, begins_as)
    boxes = [np.zeros((SIDE, SIDE), np.uint8) for _ in examples.good]
    for box in boxes:
        box[16:40, 8:32] = 255
    made = anogen.make_defects(model, word, examples.good, boxes, plan)
    assert [image.shape for image in made] == [(SIDE, SIDE, 3)] * 2
    np.testing.assert_array_equal(made, anogen.make_defects(model, word, examples.good, boxes, plan))
    # Another word changes the box more than the rest, over which the good part is put back at every step.
    with torch.no_grad():
        word.vector.mul_(-40)
    difference = np.abs(np.float32(anogen.make_defects(model, word, examples.good, boxes, plan)) - np.float32(made))
    inside = np.array(boxes) > 0
    assert difference[inside].mean() > 1.5 * difference[~inside].mean() > 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"masks": []}, "3 defects, 0 masks"),
        ({"types": [0, 2, 2]}, "number them from 0"),
    ],
    ids=["masks", "types"],
)
def test_examples_that_do_not_fit_are_refused(examples, given, words):
    whole = {"defects": examples.defects, "masks": examples.masks, "types": examples.types}
    with pytest.raises(SettingsError, match=words):
        Examples(**{**whole, **given})


def test_what_cannot_be_learnt_from_is_refused(model, examples):
    with pytest.raises(SettingsError, match="good parts too"):
        seas.fine_tune(model, Examples(examples.defects, examples.masks, examples.types), PLAN)
    with pytest.raises(SettingsError, match="2 types of defect"):
        anogen.learn_word(model, examples, AnogenPlan())


def test_an_example_turns_with_its_mask_and_its_good_part():
    image = np.zeros((64, 64, 3), np.uint8)
    image[5:20, 30:60] = 255
    mask = image[..., 0]
    batch = Examples([image], [mask], [0], [image]).batch(24, 64, np.random.default_rng(1), turn=True)
    defects, good = batch.images.chunk(2)
    assert len({x.numpy().tobytes() for x in batch.masks}) > 5
    for shown in (defects, good):
        torch.testing.assert_close((shown[:, :1] > 0).float(), batch.masks)


def test_a_cpu_needs_consent(folder):
    with pytest.raises(SettingsError, match="needs a GPU"):
        open_stable_diffusion(folder, device="cpu")


def test_a_package_that_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(SettingsError, match="diffusers is missing: .*pip install .*edgead-diffusion"):
        open_stable_diffusion(folder, device="cpu", force=True)


def test_a_folder_without_its_parts_is_refused(tmp_path):
    (tmp_path / "unet").mkdir()
    with pytest.raises(SettingsError, match="vae, text_encoder, tokenizer, scheduler missing"):
        open_stable_diffusion(tmp_path, device="cpu", force=True)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_that_are_pickles_are_refused(folder, tmp_path, part):
    copy = shutil.copytree(folder, tmp_path / "model")
    (weight,) = (copy / part).glob("*.safetensors")
    weight.rename(weight.with_name({"unet": "diffusion_pytorch_model.bin"}.get(part, "pytorch_model.bin")))
    with pytest.raises(SettingsError, match="must be safetensors"):
        open_stable_diffusion(copy, device="cpu", force=True)


def test_nothing_is_asked_of_a_network(folder, tmp_path, monkeypatch):
    import socket

    def refuse(*given, **options):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    open_stable_diffusion(folder, device="cpu", force=True)
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "unet" / "config.json").write_text(json.dumps({"_class_name": "Other"}))
    for weight in (copy / "unet").glob("*.safetensors"):
        weight.unlink()
    with pytest.raises(SettingsError, match="cannot be opened"):
        open_stable_diffusion(copy, device="cpu", force=True)
