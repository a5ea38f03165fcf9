"""``oneshot classify`` and ``verify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from app.commands.output import (
    Gallery,
    Json,
    count,
    print_json,
    print_line,
    print_table,
    problem,
    progress,
    tell_passed_over,
    tell_problems,
)
from app.commands.target import NO, PROBLEM, YES, Target, one_line_problems, run, verb
from app.image_folders import find_images
from app.names import DEFAULT_GALLERY
from oneshot_client import AsyncClient, ClientError, FaultError, ImageSource, Outcome, RejectedError
from oneshot_client.answers import ClassifyPublic

Concurrency = Annotated[int, typer.Option("--concurrency", min=1, max=256, help="Requests in flight at once.")]
Threshold = Annotated[
    float | None, typer.Option("--threshold", help="Similarity from which on it counts as the same; excludes a rate.")
]
Prior = Annotated[float | None, typer.Option("--prior", help="Probability of 'same' before looking.")]


@verb
def classify(
    target: Target,
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    *,
    gallery: Gallery = DEFAULT_GALLERY,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many candidates to list.")] = 5,
    fpir: Annotated[
        float | None, typer.Option("--fpir", help="Share of strangers that may be named as somebody.")
    ] = None,
    threshold: Threshold = None,
    prior: Prior = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell how unusual the best candidate is.")] = False,
    concurrency: Concurrency = 8,
    as_json: Json = False,
) -> int:
    """Name the class of each image. Exit code 0 when all are known, 1 when one is not, 2 for a problem."""

    with one_line_problems():
        found = find_images(paths)
    files = found.files

    async def work(client: AsyncClient) -> list[tuple[Path, Outcome[ImageSource, ClassifyPublic]]]:
        many = client.classify_many(
            files,
            gallery=gallery,
            k=k,
            fpir=fpir,
            threshold=threshold,
            prior=prior,
            explain=explain,
            concurrency=concurrency,
        )
        done: list[tuple[Path, Outcome[ImageSource, ClassifyPublic]]] = []
        with progress("classifying", len(files)) as tick:
            async for outcome in many:
                done.append((files[len(done)], outcome))
                tick()
        return done

    code = _tell_classified(run(target, work), as_json)
    tell_passed_over([str(file) for file in found.passed_over], as_json)
    return code


def _tell_classified(done: Sequence[tuple[Path, Outcome[ImageSource, ClassifyPublic]]], as_json: bool) -> int:
    good = [(file, outcome.get()) for file, outcome in done if outcome.error is None]
    if as_json:
        for file, outcome in done:
            told = problem(outcome.error) if outcome.error else outcome.get().model_dump(mode="json", by_alias=True)
            print_json({"file": str(file), **told})
    elif len(done) == 1 and good:
        _tell_one(good[0][1])
    elif good:
        print_table(
            ("file", "label", "similarity", "threshold", ""),
            [(file, found.label, _best(found), found.threshold, _verdict(found)) for file, found in good],
        )
    if _tell_problems([(file, outcome.error) for file, outcome in done]):
        return PROBLEM
    return YES if all(found.label is not None for _, found in good) else NO


def _tell_one(found: ClassifyPublic) -> None:
    known = found.label if found.label is not None else "unknown"
    print_line(f"{known}{' (ambiguous)' if found.ambiguous else ''}")
    print_table(
        ("candidate", "similarity", "distance", "evidence"),
        [(item.label, item.similarity, item.distance, item.llr) for item in found.candidates],
    )
    print_line(
        f"threshold {found.threshold:.4f}: {100 * found.fpir:.3g} % of strangers reach it among "
        f"{count(found.gallery_size, 'class', 'classes')}"
    )
    if why := found.explanation:
        print_line(
            f"as near are {100 * why.impostor_rank:.3g} % of pairs of different classes, and "
            f"{100 * why.stranger_rank:.3g} % of strangers come as near to one of these classes"
        )


def _best(found: ClassifyPublic) -> float | None:
    return found.candidates[0].similarity if found.candidates else None


def _verdict(found: ClassifyPublic) -> str:
    if found.label is None:
        return "unknown"
    return "ambiguous" if found.ambiguous else "known"


@verb
def verify(
    target: Target,
    image1: Annotated[Path, typer.Argument(help="An image.")],
    image2: Annotated[Path | None, typer.Argument(help="The image to compare it with.", show_default=False)] = None,
    *,
    label: Annotated[
        str | None, typer.Option("--label", "-l", help="Compare with this class instead of a second image.")
    ] = None,
    gallery: Gallery = DEFAULT_GALLERY,
    fmr: Annotated[
        float | None, typer.Option("--fmr", help="Share of different pairs that may be taken for the same.")
    ] = None,
    threshold: Threshold = None,
    prior: Prior = None,
    as_json: Json = False,
) -> int:
    """Tell whether two images, or an image and a class, are the same. Exit code 0 when they are, 1 when not."""
    if (image2 is None) == (label is None):
        raise typer.BadParameter("give either a second image or --label", param_hint="IMAGE2")
    found = run(
        target,
        lambda client: client.verify(
            image1, image2, label=label, gallery=gallery, fmr=fmr, threshold=threshold, prior=prior
        ),
    )
    if as_json:
        print_json(found)
    else:
        sign = ">=" if found.verified else "<"
        print_line(
            f"{'same' if found.verified else 'different'}: similarity {found.similarity:.4f} {sign} threshold "
            f"{found.threshold:.4f} (FMR {100 * found.fmr:.3g} %, FNMR {100 * found.fnmr.value:.3g} %)"
        )
    return YES if found.verified else NO


def _tell_problems(outcomes: Sequence[tuple[Path, Exception | None]]) -> int:
    failed = [(str(file), str(error), _is_anybodys(error)) for file, error in outcomes if error is not None]
    tell_problems(failed)
    return len(failed)


def _is_anybodys(error: Exception) -> bool:
    """Whether the request would have failed with any other image too."""
    if isinstance(error, RejectedError | FaultError):
        return any(each.loc[0] != "body" for each in error.errors)
    return isinstance(error, ClientError)
