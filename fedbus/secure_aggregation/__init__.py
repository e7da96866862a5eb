"""Secure aggregation: the hub learns the sum of the sites' vectors and no vector of one site; no Flower, no settings.

The protocol is the one of Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning"
(CCS 2017, figure 4; in the comments "Bonawitz"), in its variant against a lying hub, on keys that the sites' owners
approved. `site_session.SiteSession` and `hub_session.HubSession` are its two sides.
"""
