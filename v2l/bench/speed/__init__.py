"""How fast and how large: the sweep over frames and resolutions, beside the floor of the machine."""
