"""`fedbus site check`: what a hospital looks at before it joins a hub.

The findings, in the terminal and in check.json, name no picture, no patient and no file of the archive: they may be
sent to the coordinator. Nothing is logged.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from clients.check.data import data_findings, unreadable_archive
from clients.check.findings import Finding, failed, findings_table
from clients.check.hub import hub_findings
from clients.check.machine import disk_finding, find_device, training_findings
from clients.check.split import try_split
from clients.check.training_probe import MOST_STEPS, model_bytes
from clients.site.folder import SiteFolder
from fedbus.datasets.manifest import Manifest
from fedbus.datasets.registry import find_reader, read_archive
from fedbus.errors import ArchiveError
from fedbus.models.build import build_model
from fedbus.settings.schema import Settings
from fedbus.sites.inspect_dataset import inspect_manifest
from fedbus.sites.pixel_cache import PixelCache
from fedbus.system.files import write_json
from fedbus.system.terminal import BAD, GOOD, QUIET, advance_task, progress_bar

RESULT = "check.json"


def check_site(site: SiteFolder, data: tuple[str, Path] | None, settings: Settings, console: Console) -> int:
    """Check data, machine and hub; print the table and the next step; write check.json into the site's folder.

    Args:
        site: its folder.
        data: reader and folder of the images, written into site.toml once they can be used; None: those in there.
        settings: what the hub will run, or the defaults.
        console: to print on.

    Returns:
        The exit code: 0 if the site can take part, warnings or not, 1 otherwise.

    Raises:
        SettingsError: nobody says where the images are, there is no such reader or model, or site.toml can't be
            changed from here.
        RunError: the site's folder can't be written.
    """
    reader, folder = _source(site, data)
    size = model_bytes(build_model(settings.model))
    device, device_finding = find_device(site, settings)
    with progress_bar(console) as bar:
        manifest = _read(site, reader, folder)
        disk = disk_finding(site, len(manifest.rows) if manifest else 0, settings, size)
        # Images that are decoded for the inspection are stored for the split, unless the disk is too small.
        cache = replace(PixelCache.of(settings), folder=site.cache) if disk.verdict != "fail" else None
        inspection = (
            inspect_manifest(
                manifest, reader, settings.near_bits, lambda name, total: advance_task(bar, "Reading", total), cache
            )
            if manifest
            else None
        )
        steps, unsplittable = None, ""
        if inspection and not inspection.unreadable and disk.verdict != "fail":
            steps, unsplittable = try_split(
                site, inspection, settings, lambda name, total: advance_task(bar, "Preparing", total)
            )
        of_data = (
            data_findings(inspection, settings, steps, unsplittable)
            if inspection
            else [unreadable_archive(reader, folder.is_dir())]
        )
        training = training_findings(settings, device, steps, advance_task(bar, "Training on noise", 1 + MOST_STEPS))
    findings = [*of_data, disk, device_finding, *training, *hub_findings(site)]
    console.print(findings_table(site.settings.name, findings))
    _write(site, settings, findings)
    if data and steps is not None and not failed(of_data):
        site.with_data(reader, folder)
    console.print(_next_step(site, reader, folder, findings), soft_wrap=True)
    return 1 if failed(findings) else 0


def _source(site: SiteFolder, data: tuple[str, Path] | None) -> tuple[str, Path]:
    reader, folder = data or site.source()
    find_reader(reader)
    return reader, folder.expanduser().resolve()


def _read(site: SiteFolder, reader: str, folder: Path) -> Manifest | None:
    """None if the dataset can't be read: the reason may name files, so only `fedbus check` shows it."""
    try:
        return read_archive(reader, folder, site.settings.name)
    except ArchiveError:
        return None


def _write(site: SiteFolder, settings: Settings, findings: Sequence[Finding]) -> None:
    write_json(
        site.path / RESULT,
        {
            "site": site.settings.name,
            "checked": datetime.now(UTC).isoformat(timespec="seconds"),
            "ready": not failed(findings),
            "settings": {
                "model": settings.model,
                "image-size": settings.image_size,
                "batch-size": settings.batch_size,
                "folds": settings.folds,
                "round-timeout": settings.round_timeout,
            },
            "findings": [finding.to_json() for finding in findings],
        },
    )


def _next_step(site: SiteFolder, reader: str, folder: Path, findings: Sequence[Finding]) -> Text:
    lines, topics, where = Text("\n"), failed(findings), shlex.quote(str(site.path))
    if topics:
        lines.append(f"✘ Mend {', '.join(topics)} and check again.\n", style=BAD)
    if any("`fedbus check`" in finding.remedy for finding in findings):
        spec = shlex.quote(f"{site.settings.name}={reader}:{folder}")
        lines.append("Which images: ").append(f"fedbus check {spec} --out private.json\n", style="bold")
        lines.append("private.json names files and patients' folders: do not send it on.\n", style=QUIET)
    if not topics:
        lines.append("✔ Next: ", style=GOOD).append(f"fedbus site join {where}\n", style="bold")
    return lines.append(f"All findings, without names of images or patients: {site.path / RESULT}", style=QUIET)
