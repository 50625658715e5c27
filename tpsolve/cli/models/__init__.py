"""The commands on saved models, one file each."""
