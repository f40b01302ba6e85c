"""People who never were: made clips with known truth, and a judge of the visits that are made of them."""
