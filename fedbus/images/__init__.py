"""A file to an image: decoding, DICOM, burned-in annotations, fingerprints."""
