"""``oneshot-train``: download data, fit a recipe, evaluate an artefact."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from model import artifact_folder
from model.artifact import NETWORK_FILE, Artifact, ArtifactError, add_graph, load_artifact, write_manifest
from model.embedder import DeviceError, pick_device
from model.extras import without_ray
from model.manifest import Measurement
from training.card import write_card
from training.checkpoint import CheckpointError
from training.data.folder import read_folder
from training.data.labelled import DatasetError
from training.data.omniglot import download_omniglot
from training.data.symbols.download import download_packages
from training.data.symbols.pack import write_pack
from training.data.symbols.part import FOLDER, PACK
from training.fit import fit, recalibrate
from training.loop import Progress as Step
from training.loop import TrainingError
from training.machine import Precision, Team, processes
from training.progress import ProgressBar
from training.recipe import RecipeError, load_recipe
from training.subject import Part
from training.tensorboard import TensorBoardLog

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console()
ALL_THREADS: Final = torch.get_num_threads()

EXPECTED = (ArtifactError, CheckpointError, DatasetError, DeviceError, RecipeError, TrainingError, ValueError)

Datasets = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="ONESHOT_DATASETS",
        help="Folder with omniglot/, as 'oneshot-train download omniglot' fills it.",
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]


@app.command()
def download(
    what: Annotated[
        Literal["omniglot", "symbols"],
        typer.Argument(help="omniglot: handwritten characters. symbols: npm packages, rendered as a set (needs npm)."),
    ],
    folder: Annotated[Path, typer.Argument(help="Where to put the folder of that name.")] = Path("datasets"),
) -> None:
    """Download data to train on: Omniglot from its official place, or icons and fonts, and render them as symbols."""
    if what == "omniglot":
        for file in download_omniglot(folder / "omniglot"):
            console.print(f"{file} is complete")
        return
    from training.data.symbols.build import build_pack  # noqa: PLC0415 - needs the extra `train`

    packages = download_packages(folder / FOLDER)
    console.print(f"{packages} is complete")
    with Progress(console=console) as progress:
        task = progress.add_task("rendering", total=None)
        pack = build_pack(packages, listen=lambda done, total: progress.update(task, completed=done, total=total))
    file = folder / FOLDER / PACK
    write_pack(pack, file)
    console.print(f"{file} has {len(pack.classes):,} drawings of {len(pack.names):,} concepts", soft_wrap=True)


@app.command(name="fit")
def fit_command(  # noqa: PLR0917 - typer reads options from the signature
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of one of the project's recipes.")],
    data: Datasets = Path("datasets"),
    out: Annotated[Path | None, typer.Option(help="Folder of the artefact; default runs/NAME.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="part.key=value, replaces the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    engine: Annotated[
        Literal["torch", "ray"], typer.Option(help="ray: in --workers processes of a Ray cluster.")
    ] = "torch",
    workers: Annotated[int, typer.Option(min=1, help="Processes that share each batch, with --engine ray.")] = 1,
    precision: Annotated[Precision, typer.Option(help="Number format of the network's passes.")] = "float32",
    threads: Threads = ALL_THREADS,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Time between checkpoints.")] = 60,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves for TensorBoard to the artefact's folder tensorboard.")
    ] = False,
) -> None:
    """Train a recipe, calibrate it on its held-out classes, and write the artefact.

    A run that was stopped goes on from its last checkpoint when the same command is given again.
    """
    torch.set_num_threads(threads)
    loaded = load_recipe(recipe, tuple(change or ()))
    folder = out or Path("runs") / loaded.name
    with ExitStack() as stack:
        first, fitted = True, partial(fit, loaded, data, folder, checkpoint_seconds=checkpoint_seconds)
        if engine == "ray":
            team = Team(workers, device, precision, threads)
            fitted = partial(_on_ray(), loaded, data, folder, team=team, checkpoint_seconds=checkpoint_seconds)
        else:
            machine = stack.enter_context(processes(pick_device(device), precision))
            first, fitted = machine.rank == 0, partial(fitted, machine=machine)
        listeners: list[Callable[[Step], None]] = []
        if first:
            listeners.append(stack.enter_context(ProgressBar(console, loaded.name, loaded.optimizer.steps)))
        if first and tensorboard:
            listeners.append(stack.enter_context(closing(TensorBoardLog(folder / "tensorboard"))))

        def listen(step: Step) -> None:
            for listener in listeners:
                listener(step)

        artifact = fitted(listen=listen)
    if first:
        console.print(f"{artifact.manifest.model_id} is in {folder}; measure it with: oneshot-train evaluate {folder}")


def _on_ray() -> Callable[..., Artifact]:
    if why := without_ray("--engine ray", "ray,train"):
        raise ValueError(why)
    from training.on_ray import fit_on_ray  # noqa: PLC0415 - an extra

    return fit_on_ray


@app.command(name="evaluate")
def evaluate_command(  # noqa: PLR0917 - typer reads options from the signature
    artifact: Annotated[Path, typer.Argument(help="Its folder, or a shipped one's name.")],
    data: Datasets = Path("datasets"),
    out: Annotated[Path | None, typer.Option(help="Folder of the report; default reports/NAME.")] = None,
    part: Annotated[Part, typer.Option(help="held-out: the classes held out from training, to choose by.")] = (
        "evaluation"
    ),
    trials: Annotated[int, typer.Option(min=100, help="One-shot trials of the main figure.")] = 10_000,
    write: Annotated[bool, typer.Option(help="Write the figures into its manifest and model card.")] = False,
    threads: Threads = ALL_THREADS,
) -> None:
    """Measure an artefact on images that it was not trained on, and write a report with plots.

    Run it once per frozen recipe on Omniglot's evaluation alphabets; whatever is chosen is chosen with --part held-out.
    """
    from training.report.measure import measure, measurements  # noqa: PLC0415 - needs the extra `train`
    from training.report.write import write_report  # noqa: PLC0415

    torch.set_num_threads(threads)
    artifact = artifact_folder(artifact)
    loaded = load_artifact(artifact)
    folder = out or Path("reports") / loaded.manifest.name
    options = [f"--part {part}", f"--trials {trials}"]
    command = f"oneshot-train evaluate {artifact.resolve().name} {' '.join(options)}"
    report = measure(loaded, data, command=command, part=part, trials=trials, threads=threads)
    page = write_report(report, folder)
    _print_table(loaded.manifest.model_id, measurements(report))
    console.print(f"{page} shows it, {folder / 'report.json'} has every figure", soft_wrap=True)
    if write:
        manifest = loaded.manifest.model_copy(update={"accuracy": measurements(report)})
        write_manifest(artifact, manifest)
        write_card(artifact, manifest)


@app.command(name="report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="Folder with a report.json, as 'oneshot-train evaluate' writes it.")],
) -> None:
    """Draw and write a report's plots, Markdown and page anew from its report.json alone."""
    from training.report.write import render  # noqa: PLC0415 - needs the extra `train`

    console.print(f"{render(folder)} is written", soft_wrap=True)


@app.command()
def graph(artifact: Annotated[Path, typer.Argument(help="Its folder.")]) -> None:
    """Give an artefact of an earlier release its graph, by which it is served without PyTorch; its digest stays."""
    made = add_graph(load_artifact(artifact))
    console.print(f"{made.path / NETWORK_FILE} is written; {made.manifest.model_id} stays", soft_wrap=True)


@app.command(name="quantise")
def quantise_command(
    artifact: Annotated[Path, typer.Argument(help="Its folder, or a shipped one's name.")],
    data: Datasets = Path("datasets"),
    most_loss: Annotated[
        float, typer.Option(min=0, help="Points of held-out accuracy that it may lose; beyond, nothing is written.")
    ] = 0.3,
) -> None:
    """Give an artefact an int8 form, which CPUs run several times as fast; it lands in the artefact's folder int8."""
    from training.quantise import TRIALS, quantise  # noqa: PLC0415 - needs the extra `train`

    made, found = quantise(load_artifact(artifact_folder(artifact)), data, most_loss)
    console.print(
        f"{made.manifest.model_id} is in {made.path}; of {TRIALS:,} one-shot trials on held-out classes it has "
        f"{found.int8:.2f} % right, f32 {found.f32:.2f} %; measure it with: oneshot-train evaluate {made.path} --write"
    )


@app.command(name="ensemble")
def ensemble_command(
    artifacts: Annotated[list[Path], typer.Argument(help="Folders of artefacts that one recipe trained; one or more.")],
    out: Annotated[Path, typer.Option(help="Folder of the new artefact.")],
    data: Datasets = Path("datasets"),
    name: Annotated[str | None, typer.Option(help="Its name; default the folder's.")] = None,
    threads: Threads = ALL_THREADS,
) -> None:
    """Join artefacts into one that compares images by the mean of their similarities: more accurate, at more cost."""
    from training.ensemble import join  # noqa: PLC0415 - the other commands do without

    torch.set_num_threads(threads)
    members = [load_artifact(artifact_folder(folder)) for folder in artifacts]
    made = join(members, data, out, name=name or out.resolve().name)
    console.print(f"{made.manifest.model_id} is in {out}; measure it with: oneshot-train evaluate {out}")


@app.command()
def calibrate(
    artifact: Annotated[Path, typer.Argument(help="Folder of the artefact to start from.")],
    folder: Annotated[Path, typer.Option(help="Your labelled images: one sub-folder a class, several images in each.")],
    out: Annotated[Path, typer.Option(help="Folder of the new artefact: the same weights, calibrated on your images.")],
    prior: Annotated[
        float, typer.Option(min=0.000001, max=0.999999, help="Probability of 'same' before looking.")
    ] = 0.5,
    threads: Threads = ALL_THREADS,
) -> None:
    """Fit what a distance means on your own images; embeddings, and so galleries, stay as they are."""
    torch.set_num_threads(threads)
    made = recalibrate(
        load_artifact(artifact_folder(artifact)), read_folder(folder), out, source=f"folder {folder.name}", prior=prior
    )
    quality = made.manifest.calibration.quality
    console.print(
        f"{made.manifest.model_id} is in {out}, calibrated on {made.manifest.calibration.n_classes} classes by "
        f"{made.manifest.calibration.method}: log-loss {quality.log_loss:.4f}, ECE {100 * quality.ece:.2f} %"
    )


def _print_table(title: str, measurements: tuple[Measurement, ...]) -> None:
    table = Table(title=title)
    for column in ("protocol", "value", "95 % interval", "n"):
        table.add_column(column)
    for row in measurements:
        table.add_row(row.protocol, f"{row.value:g} {row.unit}", f"{row.low:g} to {row.high:g}", f"{row.n:,}")
    console.print(table)


def main() -> NoReturn:
    """Run the command line. An error that the user can fix is reported on one line, with exit code 2."""
    try:
        app()
    except EXPECTED as error:
        sys.stderr.write(f"oneshot-train: {error}\n")
        sys.exit(2)
    sys.exit(0)
