"""Networks and priors that map a hazy image to a restored one, and the backbones they are made of."""
