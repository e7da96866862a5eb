"""What stays out of a published study: folders, file names, addresses."""

import pytest

from simulations.studies.redact import public_settings, site_counts, without_folders


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/data/gone.pth does not exist.", "gone.pth does not exist."),
        ("No file '/srv/x/y.safetensors' (errno 2).", "No file 'y.safetensors' (errno 2)."),
        ("accuracy and/or macro F1, 1/2, https://example.org/a/b", "accuracy and/or macro F1, 1/2, https://example.org/a/b"),
    ],
)  # fmt: skip
def test_paths_in_messages_are_reduced_to_their_last_part(text, shown):
    assert without_folders(text) == shown


def test_settings_lose_folders_and_addresses_and_sites_all_but_counts():
    given = {"weights": "/home/ann/w.pth", "cache": "/c", "sites": {}, "ray-address": "10.0.0.1:1", "rounds": 2}
    assert public_settings(given) == {"weights": "w.pth", "rounds": 2}
    assert public_settings({"rounds": 2}) == {"rounds": 2}
    facts = {"busi": {"images": 3, "notes": ["a.png is odd"], "dropped": [{"path": "a.png"}], "pixels": "/c/x.npy"}}
    assert site_counts(facts) == {"busi": {"images": 3, "noted": 1}}
