"""One file a verb: options, one workflow, and how its result is shown. See `options` for the pattern."""
