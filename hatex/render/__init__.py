"""From data to Rich renderables; pure."""
