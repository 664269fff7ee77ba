"""The commands of `v2l`, one module for those that belong together; `v2l.cli.app` gathers them."""
