"""Wrong situations on the panel: is the cause said first, and does the command that is named next let defects pass?

    python -m benchmarks situations PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK [--only NAME,...]

trains a model of each set with the preset `fast` on up to 40 images, once, and prints a row for each situation and set
as it ends: what the public command says, the command in its first sentence, run to the letter, and escapes and false
rejects on held-out images before and after. Images are links, but for grades and lights that the set does not have.
Last come false alarms on honest sets: halves of the good images of one product.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import astuple, dataclass
from functools import cached_property, partial
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.panel import read_names
from benchmarks.panel_sets import JUDGED, TILES, PanelSet, add_panel_arguments, find_sets
from edgead.adapt.frozen_backbone import each_raw, packaged_backbone
from edgead.artifact.folder import Artifact
from edgead.calibration.cause_of_rejects import cause_of
from edgead.cli import console
from edgead.cli import main as edgead
from edgead.dataset.folders import find_good_images
from edgead.dataset.groups import group_images
from edgead.dataset.images import Images
from edgead.detector import Detector
from edgead.images.files import list_images, load_image, write_image

LEARNT, PILE, TESTED = 40, 24, 24
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.3)
HONEST = 40
MAX_RISE, NO_CAUSE = 0.02, "no cause"
REASON = ["--reason", "good parts of this production"]
# Quick, and as `fast` in all that decides here. What is measured is a change between two models of one kind.
_QUICKLY = ("--preset", "fast", "--precision", "fp32", "--set", "damp_length=false", "--memory-bank-size", "1000")
# What a set itself has of another grade (boards of one type) and light (the darkest exposure), by the start of names.
_OWN_GRADE, _OWN_LIGHT = {"deeppcb": ("20085",)}, {TILES: ("exp6",)}
_SAID = {
    "two_products": r"look like another product or grade than the rest",
    "one_of_several": r"one limit for several products|parts, grades or a light that the model has not learnt",
    "other_product": r"are rejected: (if some of them are good, )?another product, camera, light or model\?",
    "other_light": r"All scores are higher than at the training|are rejected: another product, camera, light or model"
    r"|parts, grades or a light that the model has not learnt",
    "grade_named": r"are of {words} \(by their names\), which the model"
    r"|parts, grades or a light that the model has not learnt",
    "grade_unnamed": r"apart from them, .* first: parts, grades or a light that the model has not learnt",
    "learnt_test_set": r"has learnt all \d+ good images of .*, and none is left to measure",
    "no_split": r"has learnt all \d+ good images of .*, and none is left to measure",
}
SITUATIONS = (*_SAID, "honest")


@dataclass(frozen=True, slots=True)
class Rates:
    """Escapes among defects and rejects among good parts, as counts."""

    escapes: int
    defects: int
    rejects: int
    good: int

    def __add__(self, other: Rates) -> Rates:
        return Rates(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def rise(self, before: Rates) -> float:
        return self.escapes / self.defects - before.escapes / before.defects


@dataclass(frozen=True, slots=True)
class Row:
    """One situation: whether its cause was named, the command that was, and the rates that it changed.

    `after` is None where nothing was done; `reason` says that the command was refused until a reason was given, or "".
    """

    situation: str
    sets: str
    said: str
    named: bool
    command: str
    reference: Rates
    before: Rates
    after: Rates | None
    reason: str = ""

    @property
    def chance(self) -> bool:
        """Whether no more good parts are rejected than chance allows, so that there is no cause to name."""
        return self.said.startswith(NO_CAUSE)

    @property
    def safe(self) -> bool:
        """Whether the command ended well and escapes rose by at most `MAX_RISE` over those where nothing is wrong."""
        return self.chance or (self.after is not None and self.after.rise(self.reference) <= MAX_RISE)

    def __str__(self) -> str:
        if self.after is None:
            escapes = rejects = "refused" if self.command else "nothing done"
        else:
            escapes, rejects = f"{self.after.escapes}", f"{self.after.rejects}"
        named = "yes" if self.named else "within chance" if self.chance else "no"
        command, before = f"{self.command or 'none'}{self.reason}", self.before
        escapes = f"{self.reference.escapes}; {before.escapes} -> {escapes} of {before.defects}"
        rejects = f"{before.rejects} -> {rejects} of {before.good}"
        return f"| {self.situation} | {self.sets} | {named} | {command} | {escapes} | {rejects} |"


@dataclass(frozen=True)
class Product:
    """One set: what its model learns, good parts that come later, those that are measured, and parts that are strange.

    `own` are good parts of a grade or light that the set has itself, and `own_defects` defects in that light.
    """

    data: PanelSet
    work: Path
    learnt: list[Path]
    pile: list[Path]
    tested: list[Path]
    own: list[Path]
    defects: list[Path]
    own_defects: list[Path]

    @classmethod
    def of(cls, data: PanelSet, work: Path) -> Product:
        """Deal out the images of a set."""
        starts = (_OWN_GRADE | _OWN_LIGHT).get(data.name, ())
        train, test = find_good_images(data.folder), list_images(data.folder / "test", below=True)
        usual = [path for path in train if not path.name.startswith(starts)]
        learnt = spread(usual, min(LEARNT, 2 * len(usual) // 3))
        good, bad = ([one for one in test if (one.parent.name == "good") == wanted] for wanted in (True, False))
        held = [path for path in [*train, *good] if path not in learnt]
        own = [path for path in held if path.name.startswith(starts)]
        rng = np.random.default_rng(0)
        held = [held[i] for i in rng.permutation(len(held)) if held[i] not in own]
        count = min(PILE, len(held) // 2)
        lit = [one for one in bad if one.name.startswith(_OWN_LIGHT.get(data.name, ()))]
        defects = spread([one for one in bad if one not in lit], TESTED)
        return cls(data, work, learnt, held[:count], held[count:][:TESTED], own, defects, spread(lit, TESTED))

    @property
    def name(self) -> str:
        return self.data.name

    @cached_property
    def model(self) -> Path:
        return trained(lay(self.work / "learnt" / self.name, self.learnt), self.work / "models" / self.name)[0]

    @cached_property
    def rates(self) -> Rates:
        return measure(self.model, self.tested, self.defects)

    def copy(self, situation: str) -> Path:
        return Path(shutil.copytree(self.model, fresh(self.work / situation / self.name) / "model"))


def main(arguments: list[str]) -> None:
    """Run each situation and print its rows as they end, and last the counts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks situations", description=__doc__)
    add_panel_arguments(parser, work="for models and laid-out images")
    parser.add_argument("--only", default="", metavar="NAME,...", help=f"of {', '.join(SITUATIONS)}")
    options = parser.parse_args(arguments)
    chosen = read_names(options.only) or list(SITUATIONS)
    if unknown := sorted({*chosen} - {*SITUATIONS}):
        parser.error(f"no situation {', '.join(unknown)}: choose from {', '.join(SITUATIONS)}")
    sets = read_names(options.sets) or [name for name in JUDGED if name != TILES or options.tiles]
    found = find_sets(options.panel, options.output, tiles=options.tiles, only=sets)
    products = [Product.of(data, options.output) for data in found]
    print("| situation | set | cause named | command | escapes: nothing wrong; before -> after | false rejects |")
    print("|---|---|---|---|---|---|", flush=True)
    rows = []
    for row in situations(products, [name for name in SITUATIONS if name in chosen]):
        rows.append(row)
        print(row, *[f"  said: {row.said}"] * (not (row.named or row.chance)), sep="\n", flush=True)
    wrong = [row for row in rows if not row.chance]
    safe = sum(row.safe for row in rows)
    print(f"\n{sum(row.named for row in wrong)} of {len(wrong)} causes named, {safe} of {len(rows)} safe")
    if "honest" in chosen:
        print(honest(products))


def situations(products: Sequence[Product], chosen: Sequence[str]) -> Iterator[Row]:
    """Rows of the chosen situations on each product that has them."""
    for name in chosen:
        for number, product in enumerate(products):
            other = products[(number + 1) % len(products)]
            if name == "two_products" and other is not product:
                yield two_products(product, other, SHARES[number % len(SHARES)])
            elif name == "one_of_several" and other is not product and product.name not in _OWN_GRADE:
                yield one_of_several(product, other)
            elif name == "other_product" and other is not product:
                yield other_product(product, other)
            elif name == "other_light" and product.name not in _OWN_GRADE:
                yield other_light(product)
            elif name.startswith("grade") and product.name not in _OWN_LIGHT:
                yield grade(product, by_name=name == "grade_named")
            elif name in ("learnt_test_set", "no_split"):
                yield learnt_only(product, name)


def two_products(product: Product, other: Product, share: float) -> Row:
    """Learn some of another product too; then train each from a folder of its own, as the warning says."""
    count = max(3, round(len(product.learnt) * share / (1 - share)))
    folder = lay(fresh(product.work / "two_products" / product.name) / "good", product.learnt, "a-")
    lay(folder, spread(other.learnt, count), "b-")
    mixed, said = trained(folder, folder.parent / "model")
    warning = next((line for line in said.splitlines() if line.startswith("warning: ")), "")
    answers = {"FOLDER": product.work / "learnt" / product.name, "MODEL": product.work / "models" / product.name}
    return follow(
        "two_products",
        f"{product.name} with {100 * count / (count + len(product.learnt)):.0f} % {other.name}",
        warning,
        answers,
        reference=product.rates,
        before=measure(mixed, product.tested, product.defects),
        after=lambda _: product.rates,
    )


def one_of_several(product: Product, other: Product) -> Row:
    """Judge one of two products of a model, in another light, by `edgead eval`; then do what it says, for both."""
    folder = fresh(product.work / "one_of_several" / product.name)
    for one in (product, other):
        lay(folder / "products" / one.name, one.learnt)
    both, _ = trained(folder / "products", folder / "model", "--normal-dir", "*")
    others = measure(both, other.tested, other.defects)
    usual = measure(both, product.tested, product.defects) + others
    good, tested, bad = lit(product, folder)

    def after(model: Path) -> Rates:
        return measure(model, tested, bad) + (measure(both, other.tested, other.defects) if model == both else others)

    pile = lay(folder / "production", good)
    return evaluated("one_of_several", product, both, pile, tested, bad, reference=usual, after=after)


def other_product(product: Product, other: Product) -> Row:
    """Judge another product by `edgead predict`; then train on its images."""
    model = product.copy("other_product")
    pile = lay(model.parent / "pile", other.learnt)
    _, said = run("predict", model, pile)
    warning = next((line for line in said.splitlines() if line.startswith("warning: ")), "")
    return follow(
        "other_product",
        f"{other.name} at {product.name}",
        warning,
        {"GOOD_IMAGES": product.work / "learnt" / other.name, "NEW_MODEL": other.model},
        reference=other.rates,
        before=measure(model, other.tested, other.defects),
        after=lambda _: other.rates,
        verb="train",
    )


def other_light(product: Product) -> Row:
    """Judge parts in another light, which tiles have themselves, by `edgead eval`; then do what it says."""
    model = product.copy("other_light")
    good, tested, bad = lit(product, model.parent)
    return evaluated("other_light", product, model, lay(model.parent / "production", good), tested, bad)


def lit(product: Product, folder: Path) -> Sequence[list[Path]]:
    """Good parts to come, those that are measured and defects in another light, which is rendered into a folder."""
    if product.own:
        return product.own[:PILE], product.own[PILE:][:TESTED], product.own_defects
    found = {"pile": product.pile, "tested": product.tested, "bad": product.defects}
    return [changed(paths, folder / name, brighter) for name, paths in found.items()]


def grade(product: Product, *, by_name: bool) -> Row:
    """Judge a production of which a half is of a grade that was not learnt; then teach the good parts of that."""
    name = "grade_named" if by_name else "grade_unnamed"
    model = product.copy(name)
    half = len(product.pile) // 2
    strange = product.own or changed(
        [*product.pile[half:], *product.tested[half:]], model.parent / "grade", other_colours
    )
    usual, new, tested = product.pile[:half], strange[:half], [*product.tested[:half], *strange[half:][:half]]
    taught, pile = lay(model.parent / "taught", new), model.parent / "test" / "good"
    words = "|".join(_OWN_GRADE.get(product.name, ("new",)))
    if by_name:
        plain = product.own != []
        lay(lay(pile, usual, "" if plain else "usual-"), new, "" if plain else "new-")
    else:
        mixed = np.random.default_rng(1).permutation(np.array([*usual, *new], dtype=object))
        pile.mkdir(parents=True)
        for number, path in enumerate(mixed):
            (pile / f"{number:03d}{path.suffix}").symlink_to(path.resolve())
    return evaluated(name, product, model, taught, tested, product.defects, laid=pile, words=words)


def evaluated(
    name: str,
    product: Product,
    model: Path,
    good: Path,
    tested: Sequence[Path],
    bad: Sequence[Path],
    *,
    laid: Path | None = None,
    words: str = "",
    reference: Rates | None = None,
    after: Callable[[Path], Rates] | None = None,
) -> Row:
    """Run `edgead eval` on a production, by default the folder `good`, and follow its advice with that folder."""
    folder, new = model.parent / "test", model.parent / "new"
    if after is None:
        after = partial(measure, good=tested, bad=bad)
    if laid is None:
        lay(folder / "good", list_images(good))
    lay(folder / "bad", bad[:4])
    _, said = run("eval", model, model.parent)
    advice = said.partition("more than chance.\n")[2].splitlines()[:1]
    found = re.search(r"false reject rate +│ ([^│;]+)", said)
    return follow(
        name,
        product.name,
        advice[0] if advice else f"{NO_CAUSE}, at {found[1].strip() if found else said}",
        {"GOOD_IMAGES": good, "NEW_MODEL": new, "DEFECTS": folder / "bad"},
        reference=reference or product.rates,
        before=after(model),
        after=lambda _: after(new if new.is_dir() else model),
        words=words,
    )


def learnt_only(product: Product, name: str) -> Row:
    """Measure a model on what it has learnt: a folder for tests, or a table in which nothing is."""
    model = product.copy(name)
    if name == "learnt_test_set":
        data = model.parent
        lay(data / "test" / "good", product.learnt)
        lay(data / "test" / "bad", product.defects)
    else:
        data = model.parent / "images.csv"
        lay(model.parent / "images", product.learnt, "good-")
        lay(model.parent / "images", product.defects, "bad-")
        lines = [f"images/{one.name},{one.name.partition('-')[0]}" for one in list_images(model.parent / "images")]
        data.write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    _, said = run("eval", model, data)
    rates = product.rates
    return follow(name, product.name, said, {}, reference=rates, before=rates, after=figures)


def figures(printed: str) -> Rates:
    """Read the rates that `edgead eval --json` has printed."""
    report = json.loads(printed[printed.index("{") :])
    escapes, rejects = report["escape_rate"], report["false_reject_rate"]
    return Rates(escapes["count"], escapes["total"], rejects["count"], rejects["total"])


def follow(
    name: str,
    sets: str,
    said: str,
    answers: dict[str, Path],
    *,
    reference: Rates,
    before: Rates,
    after: Callable[[str], Rates],
    words: str = "",
    verb: str = "",
) -> Row:
    """Run the first command of what was said, or of its `verb`, with `answers` for its capitals; measure again."""
    found = re.search(rf"`(edgead {verb}[^`]+)`", said)
    command = shlex.split(found[1])[1:] if found else []
    written = [str(answers.get(word, word)) for word in command]
    code, printed, reason = 0, "", ""
    # A model that is there has learnt the same images before.
    if command and not (command[0] == "train" and Path(written[written.index("-o") + 1]).is_dir()):
        more = {"teach": ["--yes"], "calibrate": ["--yes"], "train": _QUICKLY, "eval": ["--json"]}.get(command[0], [])
        code, printed = run(*written, *more)
        if code and "--reason" in printed:  # its guard asks a person to look, who knows that these are good
            reason = " (--reason)"
            code, printed = run(*written, *more, *REASON)
    named = re.search(_SAID[name].replace("{words}", words), said) is not None
    shown = shlex.join(Path(word).name for word in command)
    return Row(
        name, sets, said, named, shown, reference, before, after(printed) if command and not code else None, reason
    )


def honest(products: Sequence[Product]) -> str:
    """Count false alarms: halves of the held-out good images judged, and halves of all called two products."""
    from edgead.adapt.two_products import smaller_heap

    rejected, two, rng = [], [], np.random.default_rng(2)
    for draw in range(HONEST):
        product = products[draw % len(products)]
        scores, groups, features = scored(product)
        half = rng.permutation(len(scores))[: len(scores) // 2]
        names = [[*product.pile, *product.tested][i].name for i in half]
        chosen = scores[half].tolist(), Artifact.load(product.model).learnt_graph, product.model
        cause = cause_of(names, *chosen, groups=np.unique(groups[half], return_inverse=True)[1].tolist())
        if cause is not None:
            rejected.append(f"{product.name}: {cause.said}")
        if smaller_heap(features[rng.permutation(len(features))[: len(features) // 2]]):
            two.append(product.name)
    said = f"{len(rejected)} of {HONEST} honest sets have a cause of rejects, {len(two)} are called two products"
    return "\n".join([said, *rejected, *two])


def scored(product: Product) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and groups of held-out good images, and mean features of all; what was measured is read."""
    file = product.work / "honest" / f"{product.name}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        held = [*product.pile, *product.tested]
        with Detector.load(product.model, runtime="onnxruntime") as detector:
            scores = [detector.predict(detector.read_image(path)).image_score for path in held]
        groups = group_images(held, product.data.group, product.data.folder).of(held)
        np.savez(file, scores=scores, groups=groups, features=mean_features([*product.learnt, *held], product.model))
    with np.load(file) as content:
        return content["scores"], content["groups"], content["features"]


def mean_features(paths: Sequence[Path], model: Path) -> np.ndarray:
    """Means of the raw features of each image, as a training takes them."""
    spec = Artifact.load(model).manifest.preprocessing
    backbone = packaged_backbone("efficientnet_lite0", spec, "fp32")
    return np.array(
        [one.reshape(-1, one.shape[-1]).mean(axis=0) for one in each_raw(backbone, spec, Images(paths, spec))]
    )


def measure(model: Path, good: Sequence[Path], bad: Sequence[Path]) -> Rates:
    """Judge good and defective images."""
    with Detector.load(model, runtime="onnxruntime") as detector:
        decisions = [[detector.predict(detector.read_image(path)).decision for path in paths] for paths in (good, bad)]
    return Rates(decisions[1].count("ok"), len(bad), decisions[0].count("reject"), len(good))


def trained(folder: Path, model: Path, *options: str) -> tuple[Path, str]:
    """Train by the command on a folder of good images, once; gives what it said as well."""
    said = model.with_suffix(".txt")
    if not said.is_file():
        code, printed = run("train", folder, "-o", model, *_QUICKLY, *options)
        if code:
            raise SystemExit(printed)
        said.write_text(printed, encoding="utf-8")
    return model, said.read_text(encoding="utf-8")


def run(*arguments: object) -> tuple[int, str]:
    """Run `edgead ARGUMENTS` in this process; gives its exit code and what it printed, errors first."""
    out, err = io.StringIO(), io.StringIO()
    console.stdout.width = console.stderr.width = 1000
    argv, on_sigterm = ["edgead", *map(str, arguments)], signal.getsignal(signal.SIGTERM)
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "argv", argv):
        try:
            edgead()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)
    return code, err.getvalue() + out.getvalue()


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Some of them from the first to the last."""
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int))]


def fresh(folder: Path) -> Path:
    """Make an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def lay(folder: Path, paths: Sequence[Path], start: str = "") -> Path:
    """Link images into a folder, with names that begin so; with their folders where two have one name."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        link, target = folder / f"{start}{path.name}", path.resolve()
        if link.is_symlink() and link.readlink() != target:
            link = folder / f"{start}{path.parent.parent.name}-{path.parent.name}-{path.name}"
        if not link.is_symlink():
            link.symlink_to(target)
    return folder


def changed(paths: Sequence[Path], folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> list[Path]:
    """Write images in another light or of another grade."""
    for path in paths:
        write_image(folder / f"{path.parent.parent.name}-{path.parent.name}-{path.stem}.png", change(load_image(path)))
    return list_images(folder)


def brighter(image: np.ndarray) -> np.ndarray:
    return np.clip(1.3 * image.astype(np.float32) + 15, 0, 255).astype(np.uint8)


def other_colours(image: np.ndarray) -> np.ndarray:
    """A part of another colour: red, green and blue in turn, and darker, so that grey parts differ too."""
    return np.clip(0.6 * image[..., [1, 2, 0]].astype(np.float32), 0, 255).astype(np.uint8)
