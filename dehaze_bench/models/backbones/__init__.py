"""Published classification backbones, one file each."""
