"""What a change would win: the recording as a dependency graph that is replayed."""
