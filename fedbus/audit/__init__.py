"""The audit log of a hub or a site: what happened there, in a file whose lines are chained by their digests."""
