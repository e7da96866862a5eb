"""The limits of a site: part of its site.toml, so that its operator sets them and not the hub."""

from pydantic import Field

from clients.limits.privacy import RequiredPrivacy
from fedbus.deployment.settings_file import FileSettings


class Limits(FileSettings):
    """What a site refuses, whatever the hub's settings are.

    The defaults allow the presets of FedBUS on the public datasets; a hospital can be stricter.
    """

    min_images: int = Field(
        3,
        ge=1,
        description="Fewest images behind every count that leaves this site: in training, validation and test, of each "
        "class that the site has. Two runs may not differ by fewer images either.",
    )
    min_patients: int = Field(
        1,
        ge=1,
        description="Fewest patients behind every such count; images of unknown patients count as one patient if they "
        "are near-duplicates. 1: a class may be tested on a single patient, as on the public dataset BUS-UCLM.",
    )
    min_split_patients: int = Field(
        3, ge=1, description="Fewest patients in training, in validation and in test, over all classes."
    )
    max_splits: int = Field(
        20, ge=1, description="Most ways in which hubs may split the images; they are recorded in the folder answered."
    )
    min_update_images: int = Field(
        32, ge=2, description="Fewest distinct images that an update is trained on: fewer reveal more of each image."
    )
    max_steps: int = Field(1000, ge=1, description="Most optimiser steps of a round.")
    max_rounds: int = Field(300, ge=1, description="Most rounds of a training.")
    max_minutes: int = Field(60, ge=1, description="Most minutes that training may take in a round.")
    max_image_size: int = Field(512, ge=32, description="Largest width and height of the images, in pixels.")
    max_batch_size: int = Field(256, ge=2, description="Most images in an optimiser step.")
    max_parameters: int = Field(150, ge=1, description="Largest model, in millions of values.")
    min_free_disk: int = Field(
        1, ge=0, description="Disk space that stays free, in GB: the site stops working for the hub before it is used."
    )
    require_privacy: RequiredPrivacy = Field(
        "none",
        description="What a study must have: secure-aggregation (privacy = secure-aggregation, and no evaluation of "
        "given models: the hub learns only sums over sites), differential-privacy (dp-epsilon above 0), both, or none.",
    )
