"""Python interface to kinds of rejects: sort them, and name the kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgead.api.errors import names_parameters
from edgead.api.paths import PathLike, Paths, image_paths
from edgead.artifact.folder import Artifact
from edgead.dataset.folders import StageProgress, no_progress
from edgead.detector import Detector
from edgead.files.named import named_path

if TYPE_CHECKING:
    from edgead.sorting.name import Named
    from edgead.sorting.sort import Sorted


class SortingDetector(Detector):
    """A Detector whose rejects are sorted and whose kinds of rejects are named."""

    @names_parameters
    def sort(
        self,
        images: Paths,
        folder: PathLike | None = None,
        *,
        link: bool = False,
        progress: StageProgress = no_progress,
        **plan: Any,
    ) -> Sorted:
        """Sort images that are rejected or sent to review into kinds of defects, without a label.

        Needs scipy.

        Parameters
        ----------
        images : path or sequence of paths
            Images, or a folder of them; those that are judged ok are left out.
        folder : path, optional
            Gets a folder of images for each kind, a sheet of all kinds and tables.
        link : bool
            The folders hold links in place of copies.
        progress : callable, optional
            Called with (stage, done, total).
        **plan
            See `edgead.sorting.sort.SortPlan`: `count` of the kinds, `everything`, `group`, `seed`; `method`,
            and for "anomaly_ncd" `weights`, `base`, `epochs`,
            `device`.

        Returns
        -------
        Sorted
            Its `pareto()` has the kinds, the largest first; `of_kind(0)` the images of the largest.

        Raises
        ------
        SettingsError
            The model cannot tell kinds apart, nothing is rejected, the folder is not empty, or settings that do not fit
            the method.
        """
        from edgead.sorting.folders import check_folder, write_sorted
        from edgead.sorting.sort import SortPlan, sort_images

        for name in ("weights", "base"):
            if plan.get(name) is not None:
                plan[name] = named_path(plan[name])
        target = None if folder is None else named_path(folder)
        if target is not None:
            check_folder(target)
        found = sort_images(self, image_paths(images), SortPlan(**plan), progress=progress)
        if target is not None:
            write_sorted(self, found, target, link=link)
        return found

    @names_parameters
    def name_kinds(
        self,
        names: Mapping[str, str] | None = None,
        examples: PathLike | None = None,
        *,
        progress: StageProgress = no_progress,
        **plan: Any,
    ) -> Named:
        """Name kinds of rejects; verdicts say the kind from the next image on. The version before is kept.

        Parameters
        ----------
        names : mapping of str to str, optional
            New names by folder, such as "kind-01", or by earlier name; kinds with equal names become one.
        examples : path, optional
            Holds a folder of rejects for each kind, as `sort` writes it. Without it known kinds get other names.
        progress : callable, optional
            Called with (stage, done, total).
        **plan
            See `edgead.sorting.name.NamePlan`: `replace`, `group`, `unknown_level`.

        Returns
        -------
        Named
            Its `warnings()` belong before a person's eyes.

        Raises
        ------
        SettingsError
            A name or an example that cannot be used, or the folder was changed since it was opened.
        """
        from edgead.sorting.name import NamePlan, name_kinds

        self.artifact.check_unchanged()
        given = None if examples is None else named_path(examples)
        named = name_kinds(self.artifact.path, NamePlan(names or {}, given, **plan), progress=progress)
        self._follow(named.artifact)
        return named

    def _follow(self, artifact: Artifact) -> None:
        """Go over to what has been written to the folder, where that has the graph that is open."""
        if artifact.graph(self.graph.precision).sha256 == self.graph.sha256:
            self._take(artifact)
        else:
            self.close()  # the thresholds there are another graph's
