"""The consent of a site's operator: what the hub may run here, and what is shown of it before."""
