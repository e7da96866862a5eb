"""Drawing the synthetic sites: anatomy, scanner, and what differs between the hospitals."""
