"""The structure of HDF5 files, found from as few blocks as it takes, and in as few rounds."""
