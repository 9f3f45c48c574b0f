"""Looking in, never writing: what is there, held against what should be."""
