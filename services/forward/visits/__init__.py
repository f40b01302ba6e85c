"""What a visit is, and which pictures of it are worth keeping: pure, with the frames' time as an argument."""
