"""Names and addresses of machines."""

import pytest

from fedbus.deployment.addresses import check_host, join_address, split_address


@pytest.mark.parametrize(
    "host",
    ["hub", "hub.example.org", "HUB.Example.ORG", "a1-b.c", "3com.com", "10.0.0.7", "::1", "2001:db8::1", "x" * 63],
)
def test_a_valid_host_passes(host):
    check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "", " ", ".", "hub.", ".hub", "a..b", "-hub", "hub-", "a_b", "a b", "*.example.org", "https://hub", "hub:9092",
        "hub/x", "[::1]", "spital-zürich.ch", "256.1.1.1", "1.2.3", "hub\n", "x" * 64, "a." * 126 + "ab",
        ":::", "1::2::3",
    ],
)  # fmt: skip
def test_an_invalid_host_is_refused(host):
    with pytest.raises(ValueError, match="neither a DNS name"):
        check_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "fe80::1%eth0"])
def test_a_host_that_other_machines_cannot_reach_is_refused(host):
    with pytest.raises(ValueError, match="does not identify one machine"):
        check_host(host)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hub.example.org:9092", ("hub.example.org", 9092)),
        ("10.0.0.7:1", ("10.0.0.7", 1)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
    ],
)
def test_an_address_is_split(address, parts):
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hub", "does not end in a port"), ("hub:", "does not end in a port"), ("hub:x", "does not end in a port"),
        ("hub:0", "does not end in a port"), ("hub:65536", "does not end in a port"),
        ("hub:+9", "does not end in a port"),
        ("hub:٩", "does not end in a port"), ("hub:9092\n", "does not end in a port"),
        ("::1:9092", "needs brackets"), ("[hub]:9092", "needs brackets"), ("https://hub:9092", "needs brackets"),
        (":9092", "neither a DNS name"), ("a b:9092", "neither a DNS name"), ("0.0.0.0:9092", "does not identify"),
    ],
)  # fmt: skip
def test_an_invalid_address_is_refused(address, words):
    with pytest.raises(ValueError, match=words):
        split_address(address)


@pytest.mark.parametrize("host", ["hub.example.org", "192.0.2.7", "2001:db8::1"])
def test_split_is_the_inverse_of_join(host):
    assert split_address(join_address(host, 9092)) == (host, 9092)
