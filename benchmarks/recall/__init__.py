"""Is a person missed by looking at fewer frames? Faces pasted into real clips, judged by a look at each."""
