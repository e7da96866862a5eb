"""`fedbus site check`: check a site's images, machine and hub before it joins.

The results, in the terminal and in check.json, name no image, no patient and no file of the dataset, so they may be
sent to the coordinator. Nothing is logged.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from clients.check.data import check_data, unreadable_dataset
from clients.check.hub import check_hub
from clients.check.limits import check_limits
from clients.check.machine import check_device, check_disk, check_training
from clients.check.results import CheckResult, failed_topics, results_table
from clients.check.split import try_split
from clients.check.training_probe import MAX_STEPS, model_bytes
from clients.site.folder import SiteFolder
from fedbus.datasets.manifest import Manifest
from fedbus.datasets.registry import find_reader, read_dataset
from fedbus.errors import ArchiveError
from fedbus.models.build import build_model
from fedbus.settings.schema import Settings
from fedbus.sites.inspect_dataset import inspect_manifest
from fedbus.sites.pixel_cache import PixelCache
from fedbus.system.files import write_json
from fedbus.system.progress import Advance
from fedbus.system.terminal import BAD, GOOD, QUIET, advance_task, progress_bar

RESULT_FILE = "check.json"


def check_site(site: SiteFolder, data: tuple[str, Path] | None, settings: Settings, console: Console) -> int:
    """Check images, machine and hub, print the results and the next step, and write check.json in the site's folder.

    Args:
        site: The site's folder.
        data: Reader and folder of the images, written into site.toml if they are usable; None: those in site.toml.
        settings: The settings of the coming run, or the defaults.
        console: The console to print on.

    Returns:
        The exit status: 0 if the site can take part, even with warnings, otherwise 1.

    Raises:
        SettingsError: If the folder of the images is unknown, or there is no such reader or model.
        RunError: If the site's folder can't be written.
    """
    reader, folder = _source(site, data)
    with progress_bar(console) as bar:
        images, steps = _check_images(site, reader, folder, settings, bar)
        device, device_result = check_device(site, settings)
        training = check_training(settings, device, steps, advance_task(bar, "Training on noise", 1 + MAX_STEPS))
    results = [*check_limits(site, settings), *images, device_result, *training, *check_hub(site)]
    console.print(results_table(site.settings.name, results))
    _write(site, settings, results)
    # Usable images are remembered even if the machine or the hub still needs work.
    if data and steps is not None and not failed_topics(images):
        site.with_data(reader, folder)
    console.print(_next_step(site, reader, folder, results), soft_wrap=True)
    return 1 if failed_topics(results) else 0


def _source(site: SiteFolder, data: tuple[str, Path] | None) -> tuple[str, Path]:
    reader, folder = data or site.source()
    find_reader(reader)
    return reader, folder.expanduser().resolve()


def _check_images(
    site: SiteFolder, reader: str, folder: Path, settings: Settings, bar: Progress
) -> tuple[list[CheckResult], int | None]:
    """Check images and disk.

    Returns:
        The results, and the optimiser steps of a round; None if the images could not be split.
    """
    manifest = _read_manifest(site, reader, folder)
    disk = check_disk(site, len(manifest.rows) if manifest else 0, settings, model_bytes(build_model(settings.model)))
    if manifest is None:
        return [unreadable_dataset(reader, folder.is_dir()), disk], None

    def progress(name: str, total: int) -> Advance:
        return advance_task(bar, "Reading", total)

    # The inspection decodes the images and stores them for the split, unless that would fill the disk.
    cache = replace(PixelCache.of(settings), folder=site.cache) if disk.verdict != "fail" else None
    inspection = inspect_manifest(manifest, reader, settings.near_bits, progress, cache)
    steps, unsplittable = None, ""
    if cache and not inspection.unreadable and not inspection.masks:
        steps, unsplittable = try_split(site, inspection, settings)
    return [*check_data(inspection, settings, steps, unsplittable), disk], steps


def _read_manifest(site: SiteFolder, reader: str, folder: Path) -> Manifest | None:
    """Read the list of images; None if that fails. The reason may name files, so only `fedbus check` shows it."""
    try:
        return read_dataset(reader, folder, site.settings.name)
    except ArchiveError:
        return None


def _write(site: SiteFolder, settings: Settings, results: Sequence[CheckResult]) -> None:
    write_json(
        site.path / RESULT_FILE,
        {
            "site": site.settings.name,
            "checked": datetime.now(UTC).isoformat(timespec="seconds"),
            "ready": not failed_topics(results),
            "settings": {
                "model": settings.model,
                "image-size": settings.image_size,
                "batch-size": settings.batch_size,
                "folds": settings.folds,
                "round-timeout": settings.round_timeout,
            },
            "findings": [result.to_json() for result in results],
        },
    )


def _next_step(site: SiteFolder, reader: str, folder: Path, results: Sequence[CheckResult]) -> Text:
    lines, failed = Text("\n"), failed_topics(results)
    if failed:
        lines.append(f"✘ Fix {', '.join(failed)}, then check again.\n", style=BAD)
    if any("`fedbus check`" in result.remedy for result in results):
        spec = shlex.quote(f"{site.settings.name}={reader}:{folder}")
        lines.append("Which images: ").append(f"fedbus check {spec} --out private.json\n", style="bold")
        lines.append("private.json names files and patients' folders: do not share it.\n", style=QUIET)
    if not failed:
        where = shlex.quote(str(site.path))
        lines.append("✔ Next: ", style=GOOD).append(f"fedbus site join {where}\n", style="bold")
    return lines.append(f"All results, without names of images or patients: {site.path / RESULT_FILE}", style=QUIET)
