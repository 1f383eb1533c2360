"""From raw rows to examples: sources, votes, cleaning, duplicates, splits, prompts, cards."""
