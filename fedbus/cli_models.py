"""The commands that use what a run has made: one short function per command, no logic."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="An arm of a run (RUN/arms/ARM), a folder that a site received, or an exported bundle."
    ),
]

AsOption = Annotated[
    str | None,
    typer.Option("--as", metavar="SITE", help="Apply the models as at this site, which took part in their training."),
]


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="Model folders: arms of a run (RUN/arms/ARM), a received folder, or an exported bundle. The first one "
            "is compared with each of the others.",
        ),
    ],
    site: Annotated[
        str,
        typer.Option(
            metavar="READER=FOLDER",
            help="The dataset, which took no part in the training; NAME=READER:FOLDER also chooses its name.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder of the report. Default: evaluations/NAME-DATE-TIME in the run of the first model."
        ),
    ] = None,
    as_: AsOption = None,
    leave_out_seen: Annotated[
        bool,
        typer.Option(
            "--leave-out-seen",
            help="Leave out images, with their groups, that a model knows from its training, and report their number; "
            "otherwise they are refused.",
        ),
    ] = False,
    no_adapt: Annotated[
        bool,
        typer.Option(
            "--no-adapt",
            help="Refuse models that have BatchNorm statistics only for their own sites, instead of estimating them "
            "from the dataset's images without labels.",
        ),
    ] = False,
) -> None:
    """Evaluate models on a labelled dataset that took no part in their training; nothing is trained."""
    from rich.console import Console

    from fedbus.external.evaluate import evaluate as run

    run(models, site, out, Console(), site=as_, leave_out_seen=leave_out_seen, adapt=not no_adapt)


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the pages. Default: RUN/card.")] = None,
) -> None:
    """Write the model card of a finished run and its reporting checklists, TRIPOD+AI and CLAIM, with evidence."""
    from rich.console import Console

    from fedbus.cards.card import write_card

    write_card(run, out, Console())


def predict(
    model: ModelArgument,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders and image files; no labels needed.")],
    as_: AsOption = None,
    out: Annotated[Path | None, typer.Option(help="New folder of the results. Default: predictions-DATE-TIME.")] = None,
) -> None:
    """Predict the class of every image of folders and files. Research software, not a medical device."""
    from rich.console import Console

    from fedbus.predict.predict import predict_paths

    raise typer.Exit(predict_paths(model, paths, as_, out, Console()))


def explain(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="An arm of a run (RUN/arms/ARM), a folder that a site received, or an exported bundle; with --masks: "
            "the folder of a run.",
        ),
    ],
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PICTURE...", help="Image files; scan.dcm#12 is the twelfth frame of a DICOM file."),
    ] = None,
    as_: AsOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder of the results. Default: explained-DATE-TIME; with --masks: RUN/explained."),
    ] = None,
    masks: Annotated[
        bool,
        typer.Option(
            "--masks", help="Measure all models of a run: how much of their maps is inside the lesions of test images."
        ),
    ] = False,
) -> None:
    """Show where a model looked in each image (Grad-CAM). Research software, not a medical device."""
    from rich.console import Console

    if masks:
        from fedbus.explain.focus import measure_focus

        if pictures or as_:
            raise typer.BadParameter("--masks measures the test images of a run: name only its folder.")
        measure_focus(model, out, Console())
        return
    if not pictures:
        raise typer.BadParameter("Name at least one image, or a run with --masks.")
    from fedbus.explain.pictures import explain_pictures

    explain_pictures(model, pictures, as_, out, Console())


class ExportFormat(StrEnum):
    """Formats of an exported model."""

    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"


def export(
    model: ModelArgument,
    format_: Annotated[ExportFormat, typer.Option("--format", help="Format of the model's file.")],
    out: Annotated[Path, typer.Option(help="New folder of the bundle.")],
    as_: AsOption = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Images to compare with PyTorch on. Default: test images of the run. Can be repeated."),
    ] = None,
) -> None:
    """Export a model as a bundle that runs without FedBUS, and compare its probabilities with PyTorch's."""
    from fedbus.export.export import export_model

    export_model(model, format_.value, as_, out, images or ())
