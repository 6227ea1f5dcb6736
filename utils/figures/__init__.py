"""What the figures share: style, map panels and scatter plots."""
