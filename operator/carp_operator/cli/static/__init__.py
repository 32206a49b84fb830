"""What ``kubectl carp render`` has instead of a cluster: manifests and nodes from files, checked and planned on the spot."""
