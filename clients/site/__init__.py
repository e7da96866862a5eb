"""One site's folder on disk, its keys, and the processes it runs."""
