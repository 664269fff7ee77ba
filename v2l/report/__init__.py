"""Pages, plots and text tables, from figures that others measured."""
